"""Renewing kafka.lock.toml: what jgo resolves for the broker today, with the sha256 of every jar."""

import hashlib
import tempfile
from pathlib import Path

from jgo.constants import MAVEN_CENTRAL_URL
from jgo.env import EnvironmentBuilder, LinkStrategy
from jgo.maven import MavenContext

from local_stack.kafka_jars import LOCK_FILE

_LOGGING_VERSION = "2.25.5"  # of log4j-core, which the broker brings; the bridge must be the same


def renew_lock(kafka_version: str, path: Path = LOCK_FILE) -> int:
    """Resolves the broker of `kafka_version` from Maven Central and writes the lock. Returns how many jars it names."""
    with tempfile.TemporaryDirectory() as cache:
        context = MavenContext(repo_cache=Path(cache) / "repository", remote_repos={"central": MAVEN_CENTRAL_URL})
        builder = EnvironmentBuilder(context=context, cache_dir=Path(cache) / "jgo", link_strategy=LinkStrategy.AUTO)
        # "!": the bridge's own version table must not overrule the broker's.
        bridge = f"org.apache.logging.log4j:log4j-slf4j-impl:{_LOGGING_VERSION}!"
        environment = builder.from_endpoint(f"org.apache.kafka:kafka_2.13:{kafka_version}+{bridge}")
        files = {jar.name: jar for sub in ("jars", "modules") for jar in (environment.path / sub).glob("*.jar")}
        entries = [
            f'[[jars]]\ngroup = "{found.groupId}"\nartifact = "{found.artifactId}"\nversion = "{found.version}"\n'
            f'sha256 = "{hashlib.sha256(files[f"{found.artifactId}-{found.version}.jar"].read_bytes()).hexdigest()}"\n'
            for found in sorted(environment.lockfile.dependencies, key=lambda one: (one.groupId, one.artifactId))
        ]
    head = "# The jars of Apache Kafka's broker. `./vault lock --kafka VERSION` renews it.\n"
    path.write_text(f'{head}kafka = "{kafka_version}"\n\n' + "\n".join(entries), encoding="utf-8")
    return len(entries)
