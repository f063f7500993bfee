"""What a manifest may name, and what follows from having stored it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from regserver.errors import ErrorCode, RegistryError
from regserver.model import mediatypes
from regserver.model.digest import Digest
from regserver.model.names import Tag
from support.store import Store, descriptor, image, index, opened_store, pusher, target


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened_store(tmp_path) as opened:
        yield opened


@pytest.fixture
async def sparse(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened_store(tmp_path, allow_sparse=True) as opened:
        yield opened


async def refusal(store: Store, content: bytes, *tags: str) -> RegistryError:
    before = await store.counts()
    with pytest.raises(RegistryError) as refused:
        await store.push(target(), content, *tags)
    assert await store.counts() == before, "a refused manifest leaves nothing"
    return refused.value


async def test_every_missing_blob_is_named(store: Store) -> None:
    await store.push_blob(target(), b"{}")
    error = await refusal(store, image(b"one", b"two"), "v1")
    assert error.code is ErrorCode.MANIFEST_BLOB_UNKNOWN
    assert error.detail == {"missing": [str(Digest.of(b"one")), str(Digest.of(b"two"))]}


async def test_a_descriptor_that_lies_about_a_size_is_refused(store: Store) -> None:
    await store.push_blob(target(), b"{}")
    await store.push_blob(target(), b"layer")
    lie = image(b"layer").replace(b'"size": 5', b'"size": 6')
    assert (await refusal(store, lie, "v1")).code is ErrorCode.MANIFEST_INVALID


async def test_one_digest_as_config_and_layer_is_one_edge(store: Store) -> None:
    await store.push_image(target(), b"{}", b"{}")
    assert (await store.counts())["manifest_blobs"] == 1


async def test_a_foreign_layer_need_not_be_there(store: Store) -> None:
    await store.push_blob(target(), b"{}")
    foreign = descriptor(b"windows", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
    content = json.loads(image())
    content["layers"] = [foreign]
    await store.push(target(), json.dumps(content).encode(), "v1")
    assert (await store.counts())["missing_references"] == 1


async def test_a_foreign_layer_that_comes_later_is_kept_from_then_on(store: Store) -> None:
    await test_a_foreign_layer_need_not_be_there(store)
    await store.push_blob(target(), b"windows", pusher("another"))
    assert "missing_references" not in await store.counts()
    await store.pass_epochs(200)
    assert (await store.collector.collect("reg_my")).blobs_deleted == 0
    assert await store.counter_error("reg_my") == 0


async def test_sparse_manifests_need_the_setting(store: Store) -> None:
    error = await refusal(store, index(image(b"elsewhere")), "v1")
    assert error.code is ErrorCode.MANIFEST_BLOB_UNKNOWN


async def test_a_child_that_comes_later_becomes_the_indexs_own(sparse: Store) -> None:
    child = image(b"layer")
    await sparse.push(target(), index(child), "all")
    await sparse.push_blob(target(), b"{}")
    await sparse.push_blob(target(), b"layer")
    await sparse.push(target(), child)
    assert "missing_references" not in await sparse.counts()
    await sparse.pass_epochs(200)
    await sparse.collector.collect("reg_my")
    assert (await sparse.counts())["manifest_children"] == 1
    with pytest.raises(RegistryError) as refused:
        await sparse.manifests.delete(target(), pusher(), Digest.of(child))
    assert refused.value.code is ErrorCode.REFERENCED


async def test_an_index_entry_may_be_a_blob(store: Store) -> None:
    """BuildKit exports its cache as an index that lists layers."""
    await store.push_blob(target(), b"layer")
    await store.push(target(), index(b"layer"), "cache")
    assert (await store.counts())["manifest_blobs"] == 1


async def test_a_wrong_digest_is_refused(store: Store) -> None:
    with pytest.raises(RegistryError) as refused:
        await store.manifests.put(target(), pusher(), Digest.of(b"other"), [], index(), None)
    assert refused.value.code is ErrorCode.DIGEST_INVALID


async def test_a_manifest_larger_than_the_limit_is_refused(tmp_path: Path) -> None:
    async with opened_store(tmp_path, max_manifest_bytes=1000) as store:
        error = await refusal(store, index(annotations={"a": "b" * 1000}), "v1")
        assert error.code is ErrorCode.MANIFEST_TOO_LARGE


async def test_deleting_a_tag_untags_no_more(store: Store) -> None:
    manifest = await store.push_image(target(), b"layer", tag="v1")
    await store.push(target(), manifest, "latest")
    await store.manifests.untag(target(), pusher(), Tag("v1"))
    assert (await store.listing.tags(target(), 10, "")).items == ["latest"]


async def test_deleting_a_manifest_takes_all_its_tags(store: Store) -> None:
    manifest = await store.push_image(target(), b"layer", tag="v1")
    await store.push(target(), manifest, "latest")
    await store.manifests.delete(target(), pusher(), Digest.of(manifest))
    assert (await store.listing.tags(target(), 10, "")).items == []
    with pytest.raises(RegistryError) as gone:
        await store.manifests.get(target(), pusher(), Digest.of(manifest))
    assert gone.value.code is ErrorCode.MANIFEST_UNKNOWN


async def test_a_tag_moves_only_from_where_the_client_saw_it(store: Store) -> None:
    one, two = await store.push_image(target(), b"1"), image(b"2")
    await store.push_blob(target(), b"2")
    with pytest.raises(RegistryError) as refused:
        await store.manifests.put(target(), pusher(), None, [Tag("v1")], two, None, str(Digest.of(two)))
    assert refused.value.code is ErrorCode.PRECONDITION_FAILED
    await store.manifests.put(target(), pusher(), None, [Tag("v1")], two, None, str(Digest.of(one)))
    info = await store.manifests.stat(target(), pusher(), Tag("v1"))
    assert info.digest == Digest.of(two)


async def test_referrers_are_found_before_and_after_their_subject_comes(store: Store) -> None:
    subject = image(b"layer")
    signature = image(b"sig", artifactType="application/example", subject=descriptor(subject, mediatypes.OCI_MANIFEST))
    for content in (b"{}", b"sig", b"layer"):
        await store.push_blob(target(), content)
    put = await store.push(target(), signature)
    assert put.subject == Digest.of(subject)
    page = await store.listing.referrers(target(), Digest.of(subject), None, 10, "")
    assert [entry["artifactType"] for entry in page.items] == ["application/example"]
    await store.push(target(), subject, "v1")
    await store.pass_epochs(300)
    await store.collector.collect("reg_my")
    assert (await store.listing.referrers(target(), Digest.of(subject), "application/example", 10, "")).items
    assert not (await store.listing.referrers(target(), Digest.of(subject), "another/type", 10, "")).items


async def test_what_the_fallback_tag_lists_is_taken_in(store: Store) -> None:
    """Distribution spec, "Referrers Tag Schema": written by clients that met a registry without the API."""
    subject = await store.push_image(target(), b"layer")
    sbom = await store.push_image(target(), b"sbom", tag="sbom")
    listed = json.loads(index(sbom))
    listed["manifests"][0]["artifactType"] = "application/sbom"
    digest = Digest.of(subject)
    await store.push(target(), json.dumps(listed).encode(), f"sha256-{digest.hex}")
    page = await store.listing.referrers(target(), digest, None, 10, "")
    assert [entry["digest"] for entry in page.items] == [str(Digest.of(sbom))]
    assert not (await store.listing.referrers(target(), digest, "another", 10, "")).items


async def test_an_index_that_lists_its_own_subject_can_go(store: Store) -> None:
    child = await store.push_image(target(), b"layer")
    await store.push(target(), index(child, subject=descriptor(child, mediatypes.OCI_MANIFEST)), "both")
    for tag in ("v1", "both"):
        await store.manifests.untag(target(), pusher(), Tag(tag))
    await store.collector.collect("reg_my")
    assert await store.counts() == {}


async def test_a_quota_refuses_what_would_pass_it_and_nothing_is_kept(store: Store) -> None:
    await store.registry("small", quota=700)
    small = target("small/api")
    await store.push_image(small, b"x" * 100)
    with pytest.raises(RegistryError) as refused:
        await store.push_blob(small, b"y" * 300)
    assert refused.value.code is ErrorCode.DENIED
    assert refused.value.detail["limit_bytes"] == 700
    await store.collector.reap()
    assert await store.counter_error("reg_small") == 0
    assert (await store.counts())["blobs"] == 2
    assert await store.files() == 2


async def test_a_collection_in_the_background_waits_out_the_undo_window(store: Store) -> None:
    await store.push_image(target(), b"layer")
    await store.manifests.untag(target(), pusher(), Tag("v1"))
    assert (await store.collector.collect("reg_my", patient=True)).manifests_deleted == 0
    assert (await store.collector.collect("reg_my")).manifests_deleted == 1


async def test_a_blob_goes_when_no_registry_links_it_and_is_counted_once(store: Store) -> None:
    await store.push_image(target(), b"shared")
    await store.blobs.mount(target("other/web"), pusher(), Digest.of(b"shared"), target())
    await store.push_image(target("other/web"), b"shared")
    assert [await store.counter_error(name) for name in ("reg_my", "reg_other")] == [0, 0]
    await store.collector.reap()  # the second copies that deduplication left
    await store.manifests.untag(target(), pusher(), Tag("v1"))
    assert (await store.collector.collect("reg_my")).bytes_freed == 0
    await store.manifests.untag(target("other/web"), pusher(), Tag("v1"))
    assert (await store.collector.collect("reg_other")).bytes_freed == len(b"shared") + 2
    assert await store.counts() == {}


async def test_a_layer_that_two_images_of_a_registry_share_is_charged_once(store: Store) -> None:
    await store.push_image(target("my/api"), b"shared")
    before = await store.core.usage(store.core.db, "reg_my")
    after = await store.blobs.mount(target("my/web"), pusher(), Digest.of(b"shared"), target("my/api"))
    assert after == before
    await store.blobs.delete(target("my/web"), pusher(), Digest.of(b"shared"))
    assert await store.counter_error("reg_my") == 0


async def test_the_undo_window_holds_what_a_moved_tag_left_behind(store: Store) -> None:
    await store.push_image(target(), b"old")
    await store.push_image(target(), b"new")
    assert (await store.collector.collect("reg_my", patient=True)).manifests_deleted == 0
    await store.pass_epochs(3)
    assert (await store.collector.collect("reg_my")).manifests_deleted == 1
