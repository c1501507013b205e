"""Every query and every change of state in the project. The database is the truth; the queue is only a doorbell.

    store = Store("sqlite:////tmp/lab/modescape.db")             # after `schema.upgrade(url)`
    lease = store.leases.claim("gpu0", lease_seconds=30)         # a stage to work on, or None
    store.leases.finish(lease, StageOutput(...), memo)

What the store promises:

* Each transition is one conditional UPDATE and one event in one transaction, together with the columns lists and
  facets read. Whoever comes second changes nothing.
* Every write of a worker names its lease's token. A worker that lost its stage gets LeaseLost and changes nothing.
* Rows are returned detached: they hold what was true when they were read, belong to the caller and never change.
* All methods may be called from any thread and any process. Users' verbs (cancel, pause, ...) may be repeated.
* Event ids grow in the order in which events become visible, so "everything after id n" never misses one.

What becomes of a stage when others end, and of an experiment by its stages, is said in `stage_graph`.
"""

from __future__ import annotations

from sqlalchemy import URL

from modescape.database import why_not_written
from modescape.store.catalogue import Catalogue
from modescape.store.curves import Curves
from modescape.store.deeds import Deeds
from modescape.store.events import Events
from modescape.store.experiments import Experiments
from modescape.store.gatherings import Gatherings
from modescape.store.leases import Leases
from modescape.store.links import Links
from modescape.store.logged import Logged
from modescape.store.monitoring import Monitoring
from modescape.store.notices import Notices
from modescape.store.outputs import Outputs
from modescape.store.own_sets import OwnSets
from modescape.store.parcels import Parcels
from modescape.store.reports import Reports
from modescape.store.results import Results
from modescape.store.stages import Stages
from modescape.store.sweeps import Sweeps
from modescape.store.transaction import Database, Quota
from modescape.store.users import Users
from modescape.store.views import Views
from modescape.store.workers import Workers


class Store:
    """One database, by subject. quota: what each user may have; None asks nothing. Raises ConfigurationError for a URL
    that cannot be opened; the tables must exist."""

    def __init__(self, url: str | URL, quota: Quota | None = None) -> None:
        self.url = url
        self._database = Database(url, quota)
        self.experiments = Experiments(self._database)
        self.stages = Stages(self._database)
        self.leases = Leases(self._database)
        self.outputs = Outputs(self._database)
        self.curves = Curves(self._database)
        self.results = Results(self._database)
        self.events = Events(self._database)
        self.workers = Workers(self._database)
        self.catalogue = Catalogue(self._database)
        self.sweeps = Sweeps(self._database)
        self.own_sets = OwnSets(self._database)
        self.gatherings = Gatherings(self._database)
        self.logged = Logged(self._database)
        self.users = Users(self._database)
        self.deeds = Deeds(self._database)
        self.notices = Notices(self._database)
        self.parcels = Parcels(self._database)
        self.links = Links(self._database)
        self.reports = Reports(self._database)
        self.monitoring = Monitoring(self._database)
        self.views = Views(self._database)

    @property
    def quota(self) -> Quota | None:
        return self._database.quota

    def close(self) -> None:
        self._database.engine.dispose()

    def why_not_written(self) -> str | None:
        """What keeps anything from being written now, in words; None when nothing does. Writes nothing itself."""
        return why_not_written(self._database.engine)
