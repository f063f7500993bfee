"""A layer of 600 MB, with every client: it arrives whole, and the server's memory does not grow with it."""

from collections.abc import Callable

import pytest

from support.clients import ALL, Client
from support.layouts import Layout, make_image
from support.served import Account, Served, Tenant

LogIn = Callable[[type[Client], Account], Client]
SIZE = 600 * 10**6
MEMORY = 300 * 10**6

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """An image of one uncompressed layer that does not compress."""
    return make_image(tmp_path_factory.mktemp("large") / "image", "large", layers=1, size=SIZE, compress=False)


@pytest.mark.parametrize("kind", ALL, ids=[kind.name for kind in ALL])
def test_a_layer_of_600_megabytes_is_pushed_and_pulled(
    kind: type[Client], large: Layout, log_in: LogIn, registry: Tenant, served: Served
) -> None:
    client = log_in(kind, registry.robot)
    client.push(large, registry.image("large", "v1")).check()
    pulled = client.pull(registry.image("large", "v1"))
    assert pulled.config == large.config
    tags = served.manage("GET", f"/v1/registries/{registry.id}/images/large/tags").json["data"]
    assert tags[0]["size_bytes"] > SIZE * 0.99
    assert served.peak_memory < MEMORY, "the layer went through memory"
