"""The console as a table: method, path below ``/console``, what it demands, and the page."""

from __future__ import annotations

from regserver.console.pages import (
    access,
    activity,
    collecting,
    comparing,
    images,
    layers,
    manifests,
    registries,
    registry,
    signing,
)
from regserver.console.visit import Page
from regserver.model.access import Access

_ONE = "/registries/{registry_id}"

PAGES = (
    Page("GET", "/static/{file}", Access.OPEN, signing.static),
    Page("GET", "/sign-in", Access.OPEN, signing.show),
    Page("POST", "/sign-in", Access.OPEN, signing.sign_in),
    Page("POST", "/sign-out", Access.OPEN, signing.sign_out),
    Page("GET", "", Access.API_LIST, registries.show),
    Page("GET", "/", Access.API_LIST, registries.show),
    Page("POST", "/registries", Access.API_ADMIN, registries.create),
    Page("GET", _ONE, Access.API_READ, registry.show),
    Page("GET", _ONE + "/settings", Access.API_READ, registry.settings),
    Page("POST", _ONE + "/settings", Access.API_WRITE, registry.save),
    Page("POST", _ONE + "/retention", Access.API_READ, registry.try_policy),
    Page("POST", _ONE + "/delete", Access.API_WRITE, registry.delete),
    Page("GET", _ONE + "/audit", Access.API_READ, registry.audit),
    Page("GET", _ONE + "/access", Access.API_READ, access.show),
    Page("POST", _ONE + "/reveal", Access.API_SECRET, access.reveal),
    Page("POST", _ONE + "/rotate", Access.API_SECRET, access.rotate),
    Page("POST", _ONE + "/robots", Access.API_SECRET, access.create),
    Page("POST", _ONE + "/robots/delete", Access.API_WRITE, access.delete),
    Page("GET", _ONE + "/image", Access.API_READ, images.show),
    Page("POST", _ONE + "/image/delete", Access.API_WRITE, images.delete_image),
    Page("POST", _ONE + "/image/restore", Access.API_WRITE, images.restore_image),
    Page("GET", _ONE + "/history", Access.API_READ, images.history),
    Page("POST", _ONE + "/tag/delete", Access.API_WRITE, images.delete_tag),
    Page("POST", _ONE + "/tag/restore", Access.API_WRITE, images.restore_tag),
    Page("GET", _ONE + "/manifest", Access.API_READ, manifests.show),
    Page("GET", _ONE + "/layer", Access.API_READ, layers.show),
    Page("GET", _ONE + "/compare", Access.API_READ, comparing.show),
    Page("GET", _ONE + "/collection", Access.API_READ, collecting.show),
    Page("POST", _ONE + "/collection", Access.API_WRITE, collecting.start),
    Page("POST", _ONE + "/collection/cancel", Access.API_WRITE, collecting.cancel),
    Page("GET", _ONE + "/collection/job", Access.API_READ, collecting.progress),
    Page("GET", "/activity", Access.API_LIST, activity.show),
    Page("GET", "/events", Access.API_LIST, activity.follow),
)
