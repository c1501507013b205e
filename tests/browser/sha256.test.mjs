// SHA-256 of the browser's module against Node's own.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import test from "node:test";
import { Sha256 } from "../../frontend/static/sha256.js";

test("the digest is that of Node, whatever the length and however it comes in parts", () => {
  for (const length of [0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 128, 1000, 100003]) {
    const data = randomBytes(length);
    const expected = createHash("sha256").update(data).digest("hex");
    for (const part of [1, 7, 64, 4096]) {
      const hash = new Sha256();
      for (let at = 0; at < length; at += part) hash.update(data.subarray(at, at + part));
      assert.equal(hash.hex(), expected);
    }
  }
});
