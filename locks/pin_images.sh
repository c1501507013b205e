# Writes the digest behind every image that is named by version in the files given: name:version -> name:version@sha256:...
# What tells it: docker buildx, or skopeo. Where neither is here, or no registry answers, nothing is changed, and it is said.
set -eu
if docker buildx version >/dev/null 2>&1; then
  digest() { docker buildx imagetools inspect "$1" --format '{{.Manifest.Digest}}'; }
elif command -v skopeo >/dev/null 2>&1; then
  digest() { skopeo inspect --no-tags --format '{{.Digest}}' "docker://docker.io/$(expr "$1" : '.*/' >/dev/null && echo "$1" || echo "library/$1")"; }
else
  echo "neither docker buildx nor skopeo is here, which ask a registry: install one of them"
  exit 1
fi
found=$(sed -nE 's/^(FROM|[[:space:]]*image:)[[:space:]]+([a-z0-9./-]+:[A-Za-z0-9._-]+)(@sha256:[0-9a-f]{64})?([[:space:]].*)?$/\2/p' "$@" | sort -u)
test -n "$found" || { echo "no image is named by its version in $*"; exit 1; }
for image in $found; do
  is=$(digest "$image") || { echo "no registry told the digest of $image; the files are as they were"; exit 1; }
  expr "$is" : 'sha256:[0-9a-f]\{64\}$' >/dev/null || { echo "$is is no digest"; exit 1; }
  pins="${pins:-}s#([[:space:]])$image(@sha256:[0-9a-f]{64})?([[:space:]]|$)#\1$image@$is\3#;"
  echo "$image $is"
done
for file in "$@"; do sed -E -i "$pins" "$file"; done
