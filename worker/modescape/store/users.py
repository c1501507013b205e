"""Who may sign in, their programs' tokens, the browsers that have, and who failed to."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, exists, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from modescape import names, users
from modescape.acting import UserRole, actor
from modescape.errors import Conflict, Forbidden, NotFound
from modescape.store.links import end_links_of
from modescape.store.noted import Noted
from modescape.store.transaction import USERS_LOCK, Change, Database, Subject, now
from modescape.tables import ApiToken, FormerUser, KnownBrowser, SignIn, SignInCode, SignInFailure, User


@dataclass(frozen=True)
class Shown:
    """Whose secret was shown. user: None of a secret of the server itself."""

    user: User | None
    sign_in: SignIn | None = None


class Users(Subject):
    """By name; `Ada` and `ada` are one. Who may not know of others is told the same of those that are not there."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._used, self._seen = Noted(database, ApiToken.used_at), Noted(database, SignIn.seen_at)

    def all(self) -> list[User]:
        return self.found(select(User).order_by(User.key))

    def get(self, name: str) -> User:
        """Raises NotFound."""
        with self.database.reading() as session:
            return _find(session, name)

    def with_password(self, name: str) -> User | None:
        """The user that may sign in by that name, if there is one."""
        with self.database.reading() as session:
            found = session.scalar(select(User).where(User.key == users.key_of(name)))
        return None if found is None or found.disabled or found.password is None else found

    def has_admin(self) -> bool:
        """Whether anybody can come in who may let others in."""
        with self.database.reading() as session:
            return _admins(session, now(session)) > 0

    def add(self, name: str, role: UserRole, password: str | None) -> User:
        """password: as `users.hash_password` made it. Raises InvalidInput, Conflict (also for the name of somebody who
        was removed: what that one made is still theirs), Forbidden."""
        name = users.checked_name(name)
        actor().check(UserRole.ADMIN, "adding a user")
        try:
            with self.database.writing() as change:
                change.lock(USERS_LOCK)
                if change.session.get(FormerUser, users.key_of(name)) is not None:
                    raise Conflict(f"{name!r} was removed, and what they made stays theirs; choose another name")
                row = User(
                    id=str(uuid.uuid4()), name=name, key=users.key_of(name), role=role, password=password,
                    disabled=False, created_at=change.now, created_by=actor().name,
                )  # fmt: skip
                change.session.add(row)
                change.session.flush()
                change.deed("add", "user", row.id, name, role=role)
                return row
        except IntegrityError:
            raise Conflict(f"there is a user {name!r} already") from None

    def change(
        self, name: str, *, role: UserRole | None = None, password: str | None = None, disabled: bool | None = None
    ) -> User:
        """Each of them ends the user's sign-ins; disabling it its tokens' use, too. Raises NotFound, Conflict for
        the last admin, Forbidden: people may change their own password, and an admin everything."""
        if role is not None or disabled is not None or not _is_own(name):
            actor().check(UserRole.ADMIN, "changing a user")
        with self.database.writing() as change:
            row = _changing(change, name)
            with _keeping_an_admin(change):
                if role is not None:
                    row.role = role
                if password is not None:
                    row.password = password
                if disabled is not None:
                    row.disabled = disabled
            change.session.execute(delete(SignIn).where(SignIn.user_id == row.id))
            said = {"role": role, "disabled": disabled, "password": "changed" if password else None}
            told = {key: value for key, value in said.items() if value is not None}
            change.deed("change", "user", row.id, row.name, **told)
            return row

    def remove(self, name: str) -> None:
        """With its tokens and sign-ins; what it made stays and keeps its name, which nobody gets again. NotFound,
        Conflict, Forbidden."""
        actor().check(UserRole.ADMIN, "removing a user")
        with self.database.writing() as change:
            row = _changing(change, name)
            with _keeping_an_admin(change):
                change.session.execute(delete(User).where(User.id == row.id))
            end_links_of(change, row.name)
            change.insert_missing(FormerUser, [{"key": row.key, "at": change.now}])
            change.deed("remove", "user", row.id, row.name)

    # --- tokens ---

    def tokens(self, name: str | None = None) -> list[tuple[ApiToken, User]]:
        """Of one user or of all, the newest first. Raises NotFound."""
        with self.database.reading() as session:
            statement = select(ApiToken, User).join(User, User.id == ApiToken.user_id)
            if name is not None:
                statement = statement.where(User.id == _find(session, name).id)
            rows = session.execute(statement.order_by(ApiToken.created_at.desc(), ApiToken.id)).all()
        self._used.tell(token for token, _ in rows)
        return [(token, user) for token, user in rows]

    def add_token(self, name: str, label: str, digest: str, lifetime: timedelta | None) -> ApiToken:
        """For the user of that name, which is one's own or anybody's for an admin. lifetime: None never ends; who came
        by a token makes none that outlives it. Raises NotFound, InvalidInput, Forbidden."""
        label = names.checked(label, field="name", longest=users.LONGEST_NAME)
        if not _is_own(name):
            actor().check(UserRole.ADMIN, "tokens of somebody else")
        with self.database.writing() as change:
            row, parent = _find(change.session, name), actor().token
            by = None if parent is None else change.session.get(ApiToken, parent, with_for_update={"read": True})
            if parent is not None and by is None:
                raise Forbidden("the token by which you came was revoked meanwhile")
            ends = [None if lifetime is None else change.now + lifetime, None if by is None else by.expires_at]
            token = ApiToken(
                id=str(uuid.uuid4()), user_id=row.id, name=label, digest=digest, created_at=change.now,
                expires_at=min((end for end in ends if end is not None), default=None), parent_id=parent,
            )  # fmt: skip
            change.session.add(token)
            change.deed("add", "token", token.id, label, user=row.name)
            return token

    def revoke(self, id_: str) -> None:
        """It ends, with the sign-ins and tokens made by it. Raises NotFound, also for somebody else's, and Conflict for
        the last way in of the last admin."""
        with self.database.writing() as change:
            change.lock(USERS_LOCK)
            token = change.session.get(ApiToken, id_)
            row = None if token is None else change.session.get_one(User, token.user_id)
            if token is None or row is None or not (_is_own(row.name) or actor().may(UserRole.ADMIN)):
                raise NotFound(f"there is no token {id_[:80]!r}")
            with _keeping_an_admin(change):
                ended = [id_]
                while ended:
                    made = select(ApiToken.id).where(ApiToken.parent_id.in_(ended))
                    more = list(change.session.scalars(made))
                    change.session.execute(delete(ApiToken).where(ApiToken.id.in_(ended)))
                    ended = more
            change.deed("revoke", "token", id_, token.name, user=row.name)

    def by_token(self, digest: str) -> tuple[ApiToken, User] | None:
        """Whose token has that digest and still holds. That it was shown is written later (`write_shown`)."""
        with self.database.reading() as session:
            joined = select(ApiToken, User).join(User, User.id == ApiToken.user_id)
            found = session.execute(joined.where(ApiToken.digest == digest)).one_or_none()
            at = now(session)
        if found is None:
            return None
        token, user = found
        if user.disabled or (token.expires_at is not None and token.expires_at <= at):
            return None
        self._used.note(token.id, at)
        return token, user

    def write_shown(self) -> None:
        """When tokens and browsers were last shown, to be called now and then. Raises what the database says."""
        self._used.write()
        self._seen.write()

    # --- sign-ins ---

    def sign_in(
        self,
        digest: str,
        user: User | None,
        secret: str,
        address: str,
        *,
        token: ApiToken | None = None,
        before: str | None = None,
    ) -> SignIn:
        """A browser that has shown a secret, known from now on by what has that digest. It ends with what let it in.
        before: the digest by which it was known so far, which ends. Raises Forbidden where the secret holds no longer:
        it took a while to be checked."""
        with self.database.writing() as change:
            if user is not None:
                # locked against a change of the password that is under way, which ends the sign-ins that it sees
                now_ = change.session.get(User, user.id, populate_existing=True, with_for_update={"read": True})
                held = token is None or change.session.get(ApiToken, token.id) is not None
                same = now_ is not None and (secret != "password" or now_.password == user.password)
                if now_ is None or now_.disabled or not (held and same):
                    raise Forbidden("what was shown holds no longer; sign in again")
            change.session.execute(delete(SignIn).where((SignIn.expires_at <= change.now) | (SignIn.digest == before)))
            change.session.execute(delete(SignInCode).where(SignInCode.expires_at <= change.now))
            change.session.execute(delete(KnownBrowser).where(KnownBrowser.used_at <= change.now - users.KNOWN))
            ends = change.now + users.SESSION
            if token is not None and token.expires_at is not None:
                ends = min(ends, token.expires_at)
            row = SignIn(
                digest=digest, user_id=user.id if user else None, secret=secret, address=address,
                token_id=token.id if token else None, created_at=change.now, expires_at=ends, seen_at=change.now,
            )  # fmt: skip
            change.session.add(row)
            return row

    def by_sign_in(self, digest: str) -> Shown | None:
        """Whose browser it is; None once that has ended. That it was seen is written later (`write_shown`)."""
        with self.database.reading() as session:
            joined = select(SignIn, User).outerjoin(User, User.id == SignIn.user_id)
            found = session.execute(joined.where(SignIn.digest == digest)).one_or_none()
            at = now(session)
        if found is None or found[0].expires_at <= at or (found[1] is not None and found[1].disabled):
            return None
        sign_in, user = found
        self._seen.note(digest, at)
        return Shown(user, sign_in)

    def sign_ins(self, name: str | None) -> list[SignIn]:
        """The browsers of a user, the last seen first; None: those that have shown a secret of the server itself.
        Raises NotFound."""
        with self.database.reading() as session:
            user_id = None if name is None else _find(session, name).id
            of_it = select(SignIn).where(SignIn.user_id == user_id)
            rows = list(session.scalars(of_it.where(SignIn.expires_at > now(session))))
        self._seen.tell(rows)
        return sorted(rows, key=lambda row: (row.seen_at, row.digest), reverse=True)

    def sign_out(self, digests: Sequence[str]) -> None:
        """These browsers must sign in again."""
        with self.database.writing() as change:
            change.session.execute(delete(SignIn).where(SignIn.digest.in_(digests)))

    def sign_out_by(self, secret: str) -> None:
        """Whoever came in by a secret of the server itself that holds no longer: server-token or home-key."""
        with self.database.writing() as change:
            change.session.execute(delete(SignIn).where(SignIn.user_id.is_(None), SignIn.secret == secret))

    def new_code(self) -> str:
        """What signs in once, at /signin?code=…, whoever opens that within `users.CODE`: as the operator. Raises
        Forbidden."""
        actor().check(UserRole.ADMIN, "an address that signs in")
        code = users.new_secret()
        with self.database.writing() as change:
            change.session.add(SignInCode(digest=users.digest(code), expires_at=change.now + users.CODE))
        return code

    def take_code(self, digest: str) -> bool:
        """Whether that holds; it does no longer."""
        with self.database.writing() as change:
            held = delete(SignInCode).where(SignInCode.digest == digest).returning(SignInCode.expires_at)
            ends = change.session.execute(held).scalar_one_or_none()
            return ends is not None and ends > change.now

    def knows_browser(self, digest: str, name: str) -> bool:
        """Whether a user of that name has signed in with the browser of that digest."""
        of_it = select(KnownBrowser.digest).join(User, User.id == KnownBrowser.user_id)
        found = of_it.where(KnownBrowser.digest == digest, User.key == users.key_of(name))
        with self.database.reading() as session:
            return session.scalar(found) is not None

    def know_browser(self, digest: str, user: User) -> None:
        """A user has signed in with it by a password."""
        with self.database.writing() as change:
            change.session.merge(KnownBrowser(digest=digest, user_id=user.id, used_at=change.now))

    # --- failures ---

    def attempt(self, keys: Sequence[str]) -> float:
        """Count an attempt of these (`users.of_user`, `of_address`) before it is known how it ends: of many at once
        each meets those before it. 0.0, or the seconds until one would be heard; then it is neither counted nor
        anything written: a stranger who must wait costs no row."""
        if (wait := self.wait(keys)) > 0:
            return wait
        with self.database.writing() as change:
            at = change.now
            change.session.execute(delete(SignInFailure).where(SignInFailure.at < at - users.FORGOTTEN))
            change.insert_missing(SignInFailure, [{"key": key, "count": 0, "at": at} for key in keys])
            held = select(SignInFailure).where(SignInFailure.key.in_(keys)).order_by(SignInFailure.key)
            rows = list(change.session.scalars(held.with_for_update(key_share=True)))
            if (wait := _longest_wait(rows, at)) > 0:
                return wait
            for row in rows:
                row.count, row.at = _still(row, at) + 1, max(at, row.at)
            return 0.0

    def wait(self, keys: Sequence[str]) -> float:
        """The seconds until an attempt of these would be heard, 0.0 now."""
        with self.database.reading() as session:
            rows = session.scalars(select(SignInFailure).where(SignInFailure.key.in_(keys))).all()
            return max(0.0, _longest_wait(rows, now(session)))

    def succeeded(self, keys: Sequence[str]) -> None:
        """The attempt was right: user and browser begin anew, and an address has one less."""
        with self.database.writing() as change:
            addresses = [key for key in keys if key.startswith("address ")]
            others = [key for key in keys if key not in addresses]
            change.session.execute(delete(SignInFailure).where(SignInFailure.key.in_(others)))
            less = update(SignInFailure).where(SignInFailure.key.in_(addresses), SignInFailure.count > 0)
            change.session.execute(less.values(count=SignInFailure.count - 1))


def _longest_wait(rows: Sequence[SignInFailure], at: datetime) -> float:
    """Seconds from a moment on, 0.0 or less for none."""
    return max(
        (users.wait_after(row.key, _still(row, at)) - _since(row, at).total_seconds() for row in rows), default=0
    )


def _still(row: SignInFailure, at: datetime) -> int:
    return users.still(row.count, _since(row, at))


def _since(row: SignInFailure, at: datetime) -> timedelta:
    return max(at - row.at, timedelta(0))  # whoever was first may have begun later


def _changing(change: Change, name: str) -> User:
    change.lock(USERS_LOCK)  # of two admins who end each other's one sees what the other did
    return _find(change.session, name)


def _find(session: Session, name: str) -> User:
    found = session.scalar(select(User).where(User.key == users.key_of(name)))
    if found is None:
        raise NotFound(f"there is no user {name[:80]!r}")
    return found


def _is_own(name: str) -> bool:
    return users.key_of(name) == users.key_of(actor().name)


def _admins(session: Session, at: datetime) -> int:
    """How many admins have a way in: a password, or a token."""
    holds = or_(ApiToken.expires_at.is_(None), ApiToken.expires_at > at)
    way = or_(User.password.is_not(None), exists().where(ApiToken.user_id == User.id, holds))
    of_them = select(func.count()).select_from(User)
    return session.scalar(of_them.where(User.role == UserRole.ADMIN, User.disabled.is_(False), way)) or 0


@contextmanager
def _keeping_an_admin(change: Change) -> Iterator[None]:
    """Raises Conflict where the block ends the last one among the users who can let others in. Where there was none,
    an admin comes by a secret of the server, or its account: nothing is lost."""
    before = _admins(change.session, change.now)
    yield
    change.session.flush()
    others = change.session.scalar(select(func.count()).select_from(User))
    if before and others and not _admins(change.session, change.now):
        raise Conflict("nobody would be left who is an admin with a password or a token; make somebody else one first")
