"""Sends what has still to be told, from threads of the server: of several servers one sends each message, and to one
address goes one at a time, so that who is slow holds up nobody else."""

from __future__ import annotations

import logging
import threading
import time

from modescape import notices
from modescape.database import UNAVAILABLE
from modescape.notices import MailServer, NotTaken
from modescape.outage import DATABASE, LOOPS
from modescape.settings import Settings
from modescape.store import Store
from modescape.store.notices import Due

log = logging.getLogger("modescape.notices")

EVERY_SECONDS = 2.0
AT_ONCE = 8  # messages to as many addresses


class Messenger:
    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._over = threading.Event()
        self._free = threading.BoundedSemaphore(AT_ONCE)
        self._thread = threading.Thread(target=self._run, name="messenger", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """What is being sent now is sent; all else waits for the next start."""
        self._over.set()
        until = time.monotonic() + notices.SECONDS
        self._thread.join(notices.SECONDS)
        for _ in range(AT_ONCE):
            self._free.acquire(timeout=max(0.0, until - time.monotonic()))

    def _run(self) -> None:
        while not self._over.wait(EVERY_SECONDS):
            try:
                self._send_all()
            except UNAVAILABLE as error:
                DATABASE.away(error)
            except Exception:  # whatever it was: others wait to be told
                LOOPS.exception("messages could not be looked up; again in a moment")

    def _send_all(self) -> None:
        """All that are due, each in a thread of its own."""
        while not self._over.is_set():
            if not self._free.acquire(timeout=EVERY_SECONDS):
                continue
            due, is_sent = None, False
            try:
                due = self._store.notices.claim()
                if due is not None:
                    threading.Thread(target=self._send, args=(due,), name="message", daemon=True).start()
                    is_sent = True
            finally:
                if not is_sent:  # where no thread can be started the claim ends by itself
                    self._free.release()
            if due is None:
                return

    def _send(self, due: Due) -> None:
        try:
            self.send(due)
        except UNAVAILABLE as error:  # how it went was not kept: the claim ends by itself
            DATABASE.away(error)
        except Exception:
            LOOPS.exception("how a message went could not be kept")
        finally:
            self._free.release()

    def send(self, due: Due) -> None:
        """Try once, and keep how it went."""
        notice, recipient = due.notice, due.recipient
        try:
            if recipient.address.startswith(("https://", "http://")):
                notices.send_webhook(
                    recipient.address, recipient.secret, notice.id, notice.created_at, notice.payload,
                    notices.hosts_of(self._settings.notify_hosts),
                )  # fmt: skip
            else:
                self._mail(due)
        except NotTaken as refused:
            log.warning("the address %s was not told (%s)", recipient.id, refused)
            self._store.notices.failed(notice.id, str(refused))
        except Exception as error:  # a message that cannot be made stops no other
            log.exception("the address %s was not told", recipient.id)
            self._store.notices.failed(notice.id, f"{type(error).__name__}; the log says more")
        else:
            self._store.notices.told(notice.id)

    def _mail(self, due: Due) -> None:
        url = self._settings.smtp_url
        if url is None:
            raise NotTaken("mail cannot be sent from here: MODESCAPE_SMTP_URL is not set")
        subject, text = notices.in_words(due.notice.payload, self._settings.public_url or self._settings.url)
        sender = self._settings.mail_from
        notices.send_mail(
            MailServer.of(url.get_secret_value()), sender, due.recipient.address, due.notice.id, subject, text
        )
