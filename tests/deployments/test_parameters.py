"""Parameters of runs are stored and shown to everybody: what may be a secret is refused before there is a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prefect.exceptions import PrefectHTTPStatusError

from blocks.sources import target_for
from tests.peers.command import Machine
from tests.peers.prefect_server import prefect_server
from tests.peers.prefect_worker import client

CANARY = "canary-Pa55"
AGE_KEY = f"AGE-SECRET-KEY-1{CANARY}"
_TARGETS = (
    f"postgresql://u:{CANARY}@h/d",
    f"postgresql://u:x/{CANARY}@h/d",
    f"mysql://a@b:{CANARY}@h/d",
    f"MySQL://u:{CANARY}@h/d",
    f"postgresql://u@h/d?PASSWORD={CANARY}",
    f"postgresql://u@h/d?sslmode=require&%70assword={CANARY}",
    f"u:{CANARY}@h/d",
)
_RESTORES: list[dict[str, Any]] = [
    *({"targets": {"": target}} for target in _TARGETS),
    {"targets": {"shop-db": _TARGETS[0]}},
    {"targets": {_TARGETS[0]: "/srv/restored"}},
    {"destination": f"sftp://u:{CANARY}@h/d"},
    {"identity_file": AGE_KEY},
    {"identity_file": f"# created: today\n{AGE_KEY}"},
    {"backup": f"latest {CANARY}!"},
    {"source": _TARGETS[0]},
    {"server": f"u:{CANARY}@h"},
    {"trust": [AGE_KEY]},
]


@dataclass
class Place:
    """A Prefect server with all that we register, and where its database and its log lie."""

    root: Path
    machine: Machine

    def stored(self) -> list[Path]:
        """The server's files that have the canary in them."""
        found = [path for path in (self.root / "server").rglob("*") if path.is_file()]
        assert [path for path in found if path.suffix == ".db"], "the database is looked at"
        return [path for path in found if CANARY.encode() in path.read_bytes()]

    def begin(self, deployment: str, parameters: dict[str, Any]) -> Any:
        """A run, asked for through Prefect's API, as its UI and `prefect deployment run` do."""
        with client(self.machine) as prefect:
            found = prefect.read_deployment_by_name(deployment)
            return prefect.create_flow_run_from_deployment(found.id, parameters=parameters)

    def runs(self) -> int:
        """How many somebody asked for."""
        with client(self.machine) as prefect:
            return len([run for run in prefect.read_flow_runs() if not run.auto_scheduled])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("parameters")
    (root / "home").mkdir()
    with prefect_server(root / "server") as url:
        machine = Machine(root / "home", url)
        machine.run("register")
        yield Place(root, machine)


@pytest.mark.law(10)
@pytest.mark.fault("O08", "O12")
def test_prefect_itself_refuses_what_may_be_a_secret_and_stores_nothing_of_it(place: Place) -> None:
    bad = [("restore/on-demand", {"app": "shop", "destination": "disk", **more}) for more in _RESTORES]
    url = f"sftp://u:{CANARY}@h/d"
    bad += [
        ("copy/on-demand", {"backup": "3f9a2c", "origin": url, "destinations": ["disk"]}),
        ("copy/on-demand", {"backup": "3f9a2c", "origin": "disk", "destinations": [url]}),
        ("test-destination/on-demand", {"destination": url}),
        ("backup/on-demand", {"app": "shop", "destinations": [url]}),
        ("prune/on-demand", {"app": "shop", "destinations": [url]}),
    ]
    for deployment, parameters in bad:
        with pytest.raises(PrefectHTTPStatusError, match="409"):
            place.begin(deployment, parameters)
    assert place.runs() == 0
    assert place.stored() == []


def test_prefect_takes_every_target_that_a_person_may_mean(place: Place) -> None:
    good = {
        "directory": ("/srv/restored", "~/restored", "./a:b@c", "docker-volume:shop_data"),
        "sqlite": ("sqlite:///srv/a@b:c.sqlite", "/srv/shop.sqlite"),
        "postgres": (
            "postgresql://shop@db.example.org:5432/shop?sslmode=require",
            "POSTGRES://shop@[::1]/shop%40two",
            "postgresql:///shop?host=/run/postgresql&port=5433&container=db",
        ),
        "mysql": (
            "mysql://h/shop?ssl-mode=require&ssl-ca=/etc/ca.pem",
            "mariadb://root@localhost/x?socket=/run/m.sock",
        ),
        "redis": ("rediss://u@h:6379?ca_file=/etc/ca.pem", "redis:///run/redis.sock"),
    }
    for kind, targets in good.items():
        for target in targets:
            target_for(kind, target)
            place.begin("restore/on-demand", {"app": "shop", "destination": "disk", "targets": {"": target}})
    for destination in ("disk", "local-destination/disk", "/mnt/backups", "~/backups", "./backups"):
        place.begin("restore/on-demand", {"app": "shop", "destination": destination, "identity_file": "/root/key"})


@pytest.mark.law(10)
@pytest.mark.fault("O08", "O12")
def test_the_command_refuses_it_before_there_is_a_run(place: Place, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a").write_text("a")
    disk = str(tmp_path / "disk")
    place.machine.run("run", "--app", "shop", "--source", f"shop-files={tmp_path / 'data'}", "--to", disk)
    before = place.runs()
    to_url = [("--from", disk, "--to", target) for target in _TARGETS]
    bad = [("restore", "shop", "latest", *words) for words in to_url]
    bad += [
        ("restore", "shop", "latest", "--from", f"sftp://u:{CANARY}@h/d", "--to", "/srv/x"),
        ("restore", "shop", f"sftp://u:{CANARY}@h/d", "--from", disk, "--to", "/srv/x"),
        ("restore", "shop", "latest", "--source", _TARGETS[0], "--from", disk, "--to", "/srv/x"),
        ("restore", "shop", "latest", "--from", disk, "--to", "other://h/d"),
        ("copy", "latest", "--from", disk, "--to", f"sftp://u:{CANARY}@h/d"),
    ]
    for words in bad:
        done = place.machine.run(*words, ok=False)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
    assert place.runs() == before
    assert place.stored() == []
