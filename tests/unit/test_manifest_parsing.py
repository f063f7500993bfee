"""What is read from a manifest, and what is refused: each case names the rule it comes from."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regserver.errors import ErrorCode, RegistryError
from regserver.model import mediatypes
from regserver.model.digest import Digest
from regserver.model.manifest import MAX_DEPTH, MAX_EDGES, MAX_SIZE, MAX_VALUES, Descriptor, Manifest, parse_manifest

IMAGE, INDEX = mediatypes.OCI_MANIFEST, mediatypes.OCI_INDEX
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = "application/vnd.oci.image.config.v1+json"
UNKNOWN = "application/vnd.example.thing.v7+json"


def descriptor(name: str = "layer", media_type: str = LAYER, **fields: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(Digest.of(name.encode())), "size": len(name), **fields}


def image(**fields: Any) -> dict[str, Any]:
    document = {"schemaVersion": 2, "mediaType": IMAGE, "config": descriptor("config", CONFIG), "layers": []}
    return without_none({**document, **fields})


def index(**fields: Any) -> dict[str, Any]:
    return without_none({"schemaVersion": 2, "mediaType": INDEX, "manifests": [], **fields})


def without_none(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if value is not None}


def parse(document: Any, content_type: str | None = None) -> Manifest:
    return parse_manifest(json.dumps(document).encode(), content_type)


def digests(descriptors: tuple[Descriptor, ...]) -> list[Digest]:
    return [each.digest for each in descriptors]


def nested(levels: int) -> bytes:
    return json.dumps(image())[:-1].encode() + b',"x":' + b"[" * levels + b"]" * levels + b"}"


def with_raw(field: str, raw: str) -> bytes:
    """An image with one more field, whose value is written as given."""
    return (json.dumps(image())[:-1] + f', "{field}": {raw}}}').encode()


# ---------------------------------------------------------------- what is read


def test_an_images_edges_are_its_config_and_its_layers() -> None:
    manifest = parse(image(layers=[descriptor("one"), descriptor("two")]), IMAGE)
    assert digests(manifest.blobs) == [Digest.of(b"config"), Digest.of(b"one"), Digest.of(b"two")]
    assert manifest.blobs[1] == Descriptor(LAYER, Digest.of(b"one"), 3)
    assert manifest.entries == ()
    assert (manifest.media_type, manifest.is_index, manifest.subject) == (IMAGE, False, None)


def test_an_indexs_edges_are_its_entries() -> None:
    manifest = parse(index(manifests=[descriptor("amd64", IMAGE), descriptor("cache layer")]), INDEX)
    assert digests(manifest.entries) == [Digest.of(b"amd64"), Digest.of(b"cache layer")]
    assert manifest.blobs == ()
    assert manifest.is_index


@pytest.mark.parametrize("media_type", [mediatypes.DOCKER_MANIFEST, mediatypes.DOCKER_LIST])
def test_dockers_schema_2_is_read_alike(media_type: str) -> None:
    build = index if media_type in mediatypes.INDEXES else image
    assert parse(build(mediaType=media_type), media_type).media_type == media_type


def test_an_unknown_type_cannot_hide_what_it_needs() -> None:
    document = {
        "config": descriptor("config"),
        "layers": [descriptor("layer")],
        "blobs": [descriptor("blob")],
        "subject": descriptor("subject"),
    }
    manifest = parse(document, UNKNOWN)
    assert digests(manifest.blobs) == [Digest.of(b"config"), Digest.of(b"layer"), Digest.of(b"blob")]
    assert manifest.subject == Digest.of(b"subject")
    assert digests(parse({"manifests": [descriptor("entry")]}, UNKNOWN).entries) == [Digest.of(b"entry")]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(
    value=JSON_VALUES,
    indent=st.none() | st.integers(0, 4),
    escaped=st.booleans(),
    media_type=st.sampled_from([UNKNOWN, IMAGE]),
)
def test_content_is_kept_byte_for_byte(value: Any, indent: int | None, escaped: bool, media_type: str) -> None:
    # Image spec, "Descriptors": the digest is of the bytes, so unknown fields, order, spaces and escapes must survive.
    document = image(mediaType=media_type, layers=[descriptor()], **{"org.example": value})
    content = json.dumps(document, indent=indent, ensure_ascii=escaped).encode() + b"\n"
    manifest = parse_manifest(content, media_type)
    assert manifest.content == content
    assert manifest.media_type == media_type
    assert len(manifest.blobs) == 2


def test_a_missing_media_type_is_taken_from_the_content_type() -> None:
    assert parse(image(mediaType=None), f"{IMAGE}; charset=utf-8").media_type == IMAGE


def test_a_missing_content_type_is_taken_from_the_document() -> None:
    assert parse(index()).media_type == INDEX
    assert parse({"layers": []} | {"mediaType": UNKNOWN}).media_type == UNKNOWN


def test_with_neither_the_shape_decides() -> None:
    # Image spec: mediaType SHOULD be there, so it need not.
    assert parse(image(mediaType=None)).media_type == IMAGE
    assert parse(index(mediaType=None)).media_type == INDEX


def test_a_content_type_is_compared_without_case_and_parameters() -> None:
    # RFC 9110 §8.3.1
    assert parse(image(), f"{IMAGE.upper()} ; charset=UTF-8").media_type == IMAGE


def test_the_artifact_type_is_the_field_or_the_configs_type() -> None:
    # Distribution spec, end-12a: artifactType of the manifest, or if it is empty or missing, the config's mediaType.
    assert parse(image(artifactType="application/x-sbom")).artifact_type == "application/x-sbom"
    assert parse(image()).artifact_type == CONFIG
    assert parse(image(artifactType="")).artifact_type == CONFIG
    assert parse(index(artifactType="application/x-sbom")).artifact_type == "application/x-sbom"
    assert parse(index()).artifact_type is None


def test_a_subject_and_annotations_are_read() -> None:
    manifest = parse(image(subject=descriptor("subject", IMAGE), annotations={"a": "b"}))
    assert (manifest.subject, manifest.annotations) == (Digest.of(b"subject"), {"a": "b"})
    assert parse(image()).annotations == {}


def test_what_is_not_to_be_distributed_is_known_by_its_type() -> None:
    # Image spec, "Non-Distributable Layers"
    foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    manifest = parse(image(layers=[descriptor("ours"), descriptor("theirs", foreign, urls=["https://example.com/"])]))
    assert [layer.distributable for layer in manifest.blobs] == [True, True, False]


def test_a_null_field_is_as_good_as_none() -> None:
    # Go writes null for an empty slice.
    assert parse({**image(), "layers": None, "subject": None, "annotations": None, "manifests": None}).blobs


@pytest.mark.parametrize("size", [0, 1, MAX_SIZE])
def test_a_size_may_be_any_64_bit_count(size: int) -> None:
    # Image spec, "Descriptors": size is an int64.
    assert parse(image(layers=[descriptor(size=size)])).blobs[1].size == size


def test_surrogates_in_pairs_are_a_character() -> None:
    # RFC 8259 §7
    assert parse_manifest(with_raw("x", r'"\ud83d\uDE00 \\ud800"'), IMAGE).media_type == IMAGE


def test_nesting_is_accepted_up_to_its_limit() -> None:
    assert parse_manifest(nested(MAX_DEPTH - 1), IMAGE).media_type == IMAGE


# ---------------------------------------------------------------- what is refused

RAW = {
    "nothing": b"",
    "spaces": b"  \n",
    "null": b"null",
    "list": b"[]",
    "string": b'"manifest"',
    "number": b"2",
    "cut short": b'{"schemaVersion": 2',
    "two documents": json.dumps(image()).encode() * 2,
    "text after the end": json.dumps(image()).encode() + b"x",
    "single quotes": b"{'schemaVersion': 2}",
    "comment": b"{} // no",
    "comma at the end": b'{"schemaVersion": 2,}',
    "NUL": b"\0",
    "control character in a string (RFC 8259 §7)": with_raw("x", '"\x01"'),
    "byte order mark (RFC 8259 §8.1)": b"\xef\xbb\xbf" + json.dumps(image()).encode(),
    "UTF-16 (RFC 8259 §8.1)": json.dumps(image()).encode("utf-16"),
    "Latin-1": with_raw("x", '"é"').decode().encode("latin-1"),
    "overlong UTF-8 (RFC 3629 §3)": with_raw("x", '"Q"').replace(b'"Q"', b'"\xc0\xaf"'),
    "surrogate in UTF-8 (RFC 3629 §3)": with_raw("x", '"Q"').replace(b'"Q"', b'"\xed\xa0\x80"'),
    "lone high surrogate (RFC 8259 §8.2)": with_raw("x", r'"\ud800"'),
    "lone low surrogate, upper case": with_raw("x", r'"\uDC00"'),
    "NUL in the artifact's type": json.dumps(image(artifactType="a\0b")).encode(),
    "NUL in the config's type, which is the artifact's": json.dumps(
        image(config=descriptor(mediaType="a\0b"))
    ).encode(),
    "lone surrogate in a key": with_raw(r"\udfff", "1"),
    "surrogates in the wrong order": with_raw("x", r'["\ude00\ud83d"]'),
    "NaN (RFC 8259 §6)": with_raw("x", "NaN"),
    "Infinity": with_raw("x", "[Infinity]"),
    "-Infinity": with_raw("x", "-Infinity"),
    "integer of 21 digits (RFC 8259 §6)": with_raw("x", "9" * 21),
    "integer of a million digits": with_raw("x", "9" * 1_000_000),
    "negative one of many digits": with_raw("x", "-" + "9" * 5000),
    "hexadecimal": with_raw("x", "0x10"),
    "zeros first": with_raw("x", "007"),
    "one level too deep": nested(MAX_DEPTH),
    "lists 100,000 deep": nested(100_000),
    "objects 100,000 deep": b'{"x":' * 100_000 + b"1" + b"}" * 100_000,
    "100,000 lists never closed": b'{"x":' + b"[" * 100_000,
    "key twice (CVE-2021-41190)": with_raw("layers", "[]"),
    "key twice further in (CVE-2021-41190)": with_raw("x", '[{"digest": 1, "digest": 2}]'),
    "key twice, once escaped (CVE-2021-41190)": with_raw(r"l\u0061yers", "[]"),
}


@pytest.mark.parametrize("content", RAW.values(), ids=RAW.keys())
def test_what_is_not_strictly_one_json_object_is_refused(content: bytes) -> None:
    assert_refused(content, None)
    assert_refused(content, IMAGE)


AMBIGUOUS = {
    "index with layers (CVE-2021-41190)": index(layers=[descriptor()]),
    "index with a config": index(config=descriptor("config", CONFIG)),
    "image with manifests (CVE-2021-41190)": image(manifests=[descriptor("amd64", IMAGE)]),
    "image with an empty list of manifests": image(manifests=[]),
    "both without a type": image(mediaType=None, manifests=[]),
    "both under an unknown type": image(mediaType=UNKNOWN, manifests=[]),
    "Layers for an index (Go ignores case)": index(Layers=[descriptor()]),
    "MANIFESTS for an image (Go ignores case)": image(MANIFESTS=[descriptor()]),
    "mediatype beside mediaType": image(mediatype=INDEX),
    "long s, which Go folds to s": image(**{"layerſ": [descriptor()]}),
    "Digest beside digest": image(layers=[descriptor(Digest=str(Digest.of(b"another")))]),
    "one digest, two sizes": image(layers=[descriptor(), descriptor(size=99)]),
    "config and layer of two sizes": image(layers=[descriptor("config", size=99)]),
}


@pytest.mark.parametrize("document", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_what_two_readers_could_read_differently_is_refused(document: dict[str, Any]) -> None:
    assert_refused(json.dumps(document, ensure_ascii=False).encode(), None)


@pytest.mark.parametrize(
    ("document", "content_type"),
    [(image(), INDEX), (index(), IMAGE), (image(), mediatypes.DOCKER_MANIFEST), (image(mediaType=UNKNOWN), IMAGE)],
    ids=["image as index", "index as image", "OCI as Docker", "unknown as image"],
)
def test_a_media_type_that_differs_from_the_content_type_is_refused(
    document: dict[str, Any], content_type: str
) -> None:
    # CVE-2021-41190
    assert_refused(json.dumps(document).encode(), content_type, "differs from Content-Type")


SCHEMA_1 = {
    "by Content-Type": ({"name": "a", "fsLayers": []}, "application/vnd.docker.distribution.manifest.v1+json"),
    "signed": ({"signatures": []}, "application/vnd.docker.distribution.manifest.v1+prettyjws"),
    "by its version": ({"schemaVersion": 1, "name": "a", "fsLayers": []}, "application/json"),
    "by its mediaType": ({"mediaType": "application/vnd.docker.distribution.manifest.v1+json"}, None),
}


@pytest.mark.parametrize(("document", "content_type"), SCHEMA_1.values(), ids=SCHEMA_1.keys())
def test_docker_schema_1_is_refused_by_name(document: dict[str, Any], content_type: str | None) -> None:
    assert_refused(json.dumps(document).encode(), content_type, "schema 1")


SHAPES = {
    "image without a config": image(config=None),
    "image that is only a version": {"schemaVersion": 2, "mediaType": IMAGE},
    "index without manifests": index(manifests=None),
    "index whose manifests are an object": index(manifests={}),
    "layers as an object": image(layers={}),
    "layers as a string": image(layers="none"),
    "layer as a string": image(layers=[str(Digest.of(b"layer"))]),
    "layer null": image(layers=[None]),
    "config as a list": image(config=[descriptor()]),
    "blobs as a number": image(mediaType=UNKNOWN, blobs=7),
    "subject as true": image(subject=True),
    "subject as text": image(subject=str(Digest.of(b"subject"))),
    "annotations as a list": image(annotations=[]),
    "annotation as a number": image(annotations={"a": 1}),
    "annotation null": image(annotations={"a": None}),
    "mediaType as a number": image(mediaType=2),
    "mediaType as a list": image(mediaType=[IMAGE]),
    "mediaType that is none (RFC 6838 §4.2)": image(mediaType="manifest"),
    "mediaType with a line feed": image(mediaType=f"{UNKNOWN}\r\nX-Injected: yes"),
    "artifactType as a number": image(artifactType=7),
    "artifactType without end": image(artifactType="a" * 5000),
    "schemaVersion 3": image(schemaVersion=3),
    "schemaVersion as text": image(schemaVersion="2"),
    "schemaVersion true": image(schemaVersion=True),
    "schemaVersion 2.0": image(schemaVersion=2.0),
    "layer's mediaType as a number": image(layers=[descriptor(mediaType=1)]),
    "size true": image(layers=[descriptor(size=True)]),
    "size false": image(layers=[descriptor(size=False)]),
    "size below zero": image(layers=[descriptor(size=-1)]),
    "size 2^63": image(layers=[descriptor(size=MAX_SIZE + 1)]),
    "size 1.0": image(layers=[descriptor(size=1.0)]),
    "size 1e3": image(layers=[descriptor(size=1e300)]),
    "size as text": image(layers=[descriptor(size="5")]),
    "size null": image(layers=[descriptor(size=None)]),
    "no size": image(layers=[without_none(descriptor(size=None))]),
    "no digest": image(layers=[without_none(descriptor(digest=None))]),
    "digest as a number": image(layers=[descriptor(digest=256)]),
    "digest of an unknown algorithm": image(layers=[descriptor(digest="md5:" + "a" * 32)]),
    "digest in upper case": image(layers=[descriptor(digest="sha256:" + "A" * 64)]),
    "digest as a path": image(layers=[descriptor(digest="sha256:../../../../etc/passwd")]),
    "digest with a line feed": image(layers=[descriptor(digest=f"{Digest.of(b'')}\n")]),
    "malformed digest under an unknown type": {"mediaType": UNKNOWN, "layers": [descriptor(digest="sha256:0")]},
    "malformed subject digest": image(subject=descriptor(digest="sha256:0")),
    "malformed entry": index(manifests=[{"digest": "sha256:0", "size": 1, "mediaType": IMAGE}]),
}


@pytest.mark.parametrize("document", SHAPES.values(), ids=SHAPES.keys())
def test_a_document_of_the_wrong_shape_is_refused(document: dict[str, Any]) -> None:
    # Image spec: "Image Manifest", "Image Index", "Content Descriptors".
    assert_refused(json.dumps(document).encode(), None)


def test_more_references_than_a_transaction_should_take_are_refused() -> None:
    entries = [descriptor(str(number), IMAGE) for number in range(MAX_EDGES + 1)]
    assert len(parse(index(manifests=entries[:-1])).entries) == MAX_EDGES
    assert_refused(json.dumps(index(manifests=entries)).encode(), INDEX, "references")


def test_more_values_than_any_index_needs_are_refused_before_they_are_parsed() -> None:
    entries = b",".join([b"{}"] * (MAX_VALUES // 2))
    assert_refused(b'{"schemaVersion":2,"annotations":[' + entries + b"]}", INDEX, "values")
    platform = {"os": "linux", "architecture": "arm64", "variant": "v8"}
    full = [
        descriptor(str(number), IMAGE) | {"platform": platform, "annotations": {"a": "b"}}
        for number in range(MAX_EDGES)
    ]
    assert len(parse(index(manifests=full)).entries) == MAX_EDGES


@given(st.binary(max_size=200))
def test_no_bytes_at_all_make_the_parser_fail(content: bytes) -> None:
    assert_refused(content, None)


@given(JSON_VALUES, st.sampled_from(["config", "layers", "blobs", "manifests", "subject", "mediaType", "annotations"]))
def test_no_value_of_a_field_makes_the_parser_fail(value: Any, field: str) -> None:
    content = json.dumps({**image(), field: value}).encode()
    try:
        assert parse_manifest(content, None).content == content
    except RegistryError as refusal:
        assert refusal.code is ErrorCode.MANIFEST_INVALID


def assert_refused(content: bytes, content_type: str | None, reason: str = "") -> None:
    with pytest.raises(RegistryError) as refusal:
        parse_manifest(content, content_type)
    assert (refusal.value.code, refusal.value.code.status) == (ErrorCode.MANIFEST_INVALID, 400)
    assert reason in refusal.value.message
    assert len(refusal.value.message) < 200
