"""Things that are not images: files, signatures, SBOMs, attached to an image and found again."""

import json
from collections.abc import Callable
from pathlib import Path

from support.clients import Client, Oras, Regctl
from support.layouts import digest_of, make_image
from support.served import Account, Served, Tenant

LogIn = Callable[[type[Client], Account], Client]
SBOM = "application/spdx+json"
SIGNATURE = "application/vnd.example.signature"


def oras_for(log_in: LogIn, registry: Tenant) -> Oras:
    client = log_in(Oras, registry.robot)
    assert isinstance(client, Oras)
    return client


def discovered(oras: Oras, target: str, *options: str) -> list[str]:
    """The artifact types of what refers to an image."""
    answer = oras.registry("discover", "--format", "json", *options, target).check().stdout
    return [referrer["artifactType"] for referrer in json.loads(answer)["referrers"]]


def test_oras_pushes_files_and_pulls_them_back_bit_exact(
    log_in: LogIn, registry: Tenant, served: Served, tmp_path: Path
) -> None:
    oras = oras_for(log_in, registry)
    contents = {"model.bin": bytes(range(256)) * 300, "empty.txt": b"", "notes.txt": "größe\n".encode()}
    for name, content in contents.items():
        (oras.home / name).write_bytes(content)
    target = registry.image("models/small", "v1")
    oras.registry("push", "--artifact-type", "application/vnd.example.model", target, *contents).check()
    folder = tmp_path / "back"
    oras.registry("pull", "--output", folder, target).check()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == contents
    assert {digest_of(content) for content in contents.values()} < set(served.stored(registry, "models/small", "v1"))


def test_what_oras_attaches_to_an_image_is_discovered(
    log_in: LogIn, registry: Tenant, served: Served, tmp_path: Path
) -> None:
    oras = oras_for(log_in, registry)
    image = make_image(tmp_path / "image", "with-referrers")
    target = registry.image("api", "v1")
    oras.push(image, target).check()
    (oras.home / "sbom.json").write_text('{"packages": []}')
    attach = ("attach", "--artifact-type", SBOM, "--annotation", "made.by=test", target, f"sbom.json:{SBOM}")
    oras.registry(*attach).check()
    oras.registry("attach", "--artifact-type", SIGNATURE, "--annotation", "a=b", target).check()
    assert sorted(discovered(oras, target)) == sorted([SBOM, SIGNATURE])
    assert discovered(oras, target, "--artifact-type", SBOM) == [SBOM]
    listed = served.fetch(
        registry.robot,
        f"/v2/{registry.name}/api/referrers/{image.root}",
        scope=f"repository:{registry.name}/api:pull",
    ).json
    assert len(listed["manifests"]) == 2
    assert any(entry.get("annotations", {}).get("made.by") == "test" for entry in listed["manifests"])


def test_an_image_copied_with_its_referrers_keeps_them(log_in: LogIn, registry: Tenant, tmp_path: Path) -> None:
    oras = oras_for(log_in, registry)
    source, target = registry.image("api", "v1"), registry.image("mirror/api", "v1")
    oras.push(make_image(tmp_path / "image", "copied-with-referrers"), source).check()
    oras.registry("attach", "--artifact-type", SBOM, "--annotation", "a=b", source).check()
    plain = ("--from-plain-http", "--to-plain-http")
    configs = ("--from-registry-config", oras.config, "--to-registry-config", oras.config)
    oras.run("cp", "--recursive", *plain, *configs, source, target).check()
    assert discovered(oras, target) == [SBOM]


def test_regctl_puts_an_artifact_on_an_image_and_gets_it_back(log_in: LogIn, registry: Tenant, tmp_path: Path) -> None:
    regctl = log_in(Regctl, registry.robot)
    target = registry.image("api", "v1")
    regctl.push(make_image(tmp_path / "image", "regctl-artifact"), target).check()
    content = '{"packages": ["a", "b"]}'
    put = ("artifact", "put", "--artifact-type", SBOM, "-m", SBOM, "--subject", target)
    regctl.run(*put, stdin=content).check()
    listed = regctl.run("artifact", "list", "--filter-artifact-type", SBOM, target).check().stdout
    assert SBOM in listed
    got = regctl.run("artifact", "get", "--subject", target, "--filter-artifact-type", SBOM).check()
    assert got.stdout == content
