"""Docker's manifests in OCI's words."""

import json

from regserver.cli.converting import Conversion
from regserver.cli.distribution import Served
from regserver.model.digest import Digest

DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DIFF = "application/vnd.docker.image.rootfs.diff.tar.gzip"
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
CONFIG = "application/vnd.docker.container.image.v1+json"


def served(media_type: str, **fields: object) -> Served:
    content = json.dumps({"schemaVersion": 2, "mediaType": media_type, **fields}).encode()
    return Served(media_type, str(Digest.of(content)), content)


def part(media_type: str, **more: object) -> dict[str, object]:
    return {"mediaType": media_type, "digest": "sha256:" + "1" * 64, "size": 7, **more}


def child(of: Served, **more: object) -> dict[str, object]:
    return {"mediaType": of.media_type, "digest": of.digest, "size": len(of.content), **more}


def converted(*manifests: Served) -> tuple[Served, Conversion]:
    """The first of them, and how the others fared."""
    conversion = Conversion({one.digest: one for one in manifests})
    return conversion.of(manifests[0].digest), conversion


def test_only_media_types_change() -> None:
    docker = served(DOCKER, config=part(CONFIG), layers=[part(DIFF), part(FOREIGN, urls=["https://example.com/x"])])
    made, _ = converted(docker)
    assert (made.media_type, made.digest) == (OCI, str(Digest.of(made.content)))
    assert json.loads(made.content) == {
        "schemaVersion": 2,
        "mediaType": OCI,
        "config": part("application/vnd.oci.image.config.v1+json"),
        "layers": [
            part("application/vnd.oci.image.layer.v1.tar+gzip"),
            part("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", urls=["https://example.com/x"]),
        ],
    }


def test_what_is_oci_stays_bit_for_bit() -> None:
    image = served(OCI, config=part("application/vnd.oci.empty.v1+json"), layers=[part("application/vnd.what.ever")])
    index = served(OCI_INDEX, manifests=[child(image)])
    made, conversion = converted(index, image)
    assert made is index
    assert conversion.changed == set()


def test_an_index_follows_its_children() -> None:
    docker = served(DOCKER, config=part(CONFIG), layers=[])
    image = served(OCI, config=part("application/vnd.oci.empty.v1+json"), layers=[])
    for media_type in (DOCKER_LIST, OCI_INDEX):
        platform = {"architecture": "arm64", "os": "linux"}
        absent = part(DOCKER)
        index = served(media_type, manifests=[child(docker, platform=platform), child(image), absent])
        made, conversion = converted(index, docker, image)
        new = conversion.made[docker.digest]
        document = json.loads(made.content)
        assert document["mediaType"] == made.media_type == OCI_INDEX
        assert document["manifests"] == [child(new, platform=platform), child(image), absent]
        assert conversion.changed == {index.digest, docker.digest}


def test_what_is_no_image_stays_dockers() -> None:
    plugin = served(DOCKER, config=part("application/vnd.docker.plugin.v1+json"), layers=[part(DIFF)])
    nothing = served(DOCKER)
    for docker in (plugin, nothing):
        assert converted(docker)[0] is docker
