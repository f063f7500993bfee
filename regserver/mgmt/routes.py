"""The management API as a table. More particular paths stand before those that would swallow them."""

from __future__ import annotations

from regserver.mgmt.audit import list_events
from regserver.mgmt.credentials import get_credentials, renew_credentials, rotate_credentials
from regserver.mgmt.events import follow_events
from regserver.mgmt.gc import cancel_job, explain, get_job, get_report, list_jobs, start_job
from regserver.mgmt.images import delete_image, delete_tag, get_image, get_tag, list_images, list_tags
from regserver.mgmt.openapi import describing
from regserver.mgmt.policies import try_retention
from regserver.mgmt.registries import (
    create_registry,
    delete_registry,
    get_registry,
    list_registries,
    update_registry,
)
from regserver.mgmt.robots import (
    create_robot,
    delete_robot,
    get_robot,
    list_robots,
    renew_robot,
    rotate_robot,
    update_robot,
)
from regserver.mgmt.scrub import get_scrub, list_damage
from regserver.mgmt.tokens import create_token, delete_token, get_token, list_tokens, renew_token
from regserver.mgmt.undo import list_history, restore_image, restore_tag
from regserver.model.access import Access
from regserver.web.context import Route

_ALL = "/v1/registries"
_ONE = "/v1/registries/{registry_id}"
_ROBOTS = _ONE + "/robots"
_ROBOT = _ROBOTS + "/{robot_id}"
_TOKENS = "/v1/tokens"
_TOKEN = _TOKENS + "/{token_id}"
_IMAGE = _ONE + "/images/{image:.+}"

_DESCRIBED = (
    Route("GET", _ALL, Access.API_LIST, list_registries),
    Route("POST", _ALL, Access.API_ADMIN, create_registry),
    Route("GET", _ONE, Access.API_READ, get_registry),
    Route("PATCH", _ONE, Access.API_WRITE, update_registry),
    Route("DELETE", _ONE, Access.API_WRITE, delete_registry),
    Route("GET", _ONE + "/credentials", Access.API_SECRET, get_credentials),
    Route("POST", _ONE + "/rotate-credentials", Access.API_SECRET, rotate_credentials, renew_credentials),
    Route("GET", _ROBOTS, Access.API_READ, list_robots),
    Route("POST", _ROBOTS, Access.API_SECRET, create_robot, renew_robot),
    Route("GET", _ROBOT, Access.API_READ, get_robot),
    Route("PATCH", _ROBOT, Access.API_WRITE, update_robot),
    Route("DELETE", _ROBOT, Access.API_WRITE, delete_robot),
    Route("POST", _ROBOT + "/rotate", Access.API_SECRET, rotate_robot, renew_robot),
    Route("GET", _ONE + "/images", Access.API_READ, list_images),
    Route("GET", _IMAGE + "/tags", Access.API_READ, list_tags),
    Route("GET", _IMAGE + "/tags/{tag}/history", Access.API_READ, list_history),
    Route("POST", _IMAGE + "/tags/{tag}/restore", Access.API_WRITE, restore_tag),
    Route("GET", _IMAGE + "/tags/{tag}", Access.API_READ, get_tag),
    Route("DELETE", _IMAGE + "/tags/{tag}", Access.API_WRITE, delete_tag),
    Route("POST", _IMAGE + "/restore", Access.API_WRITE, restore_image),
    Route("GET", _IMAGE, Access.API_READ, get_image),
    Route("DELETE", _IMAGE, Access.API_WRITE, delete_image),
    Route("POST", _ONE + "/retention/dry-run", Access.API_READ, try_retention),
    Route("POST", _ONE + "/gc", Access.API_WRITE, start_job),
    Route("GET", _ONE + "/gc", Access.API_READ, list_jobs),
    Route("GET", _ONE + "/gc/{job_id}", Access.API_READ, get_job),
    Route("POST", _ONE + "/gc/{job_id}/cancel", Access.API_WRITE, cancel_job),
    Route("GET", _ONE + "/gc/{job_id}/report", Access.API_READ, get_report),
    Route("GET", _ONE + "/explain/{digest}", Access.API_READ, explain),
    Route("GET", "/v1/audit", Access.API_LIST, list_events),
    Route("GET", "/v1/events", Access.API_LIST, follow_events),
    Route("GET", "/v1/scrub", Access.API_ADMIN, get_scrub),
    Route("GET", "/v1/scrub/damage", Access.API_ADMIN, list_damage),
    Route("GET", _TOKENS, Access.API_ADMIN, list_tokens),
    Route("POST", _TOKENS, Access.API_ADMIN, create_token, renew_token),
    Route("GET", _TOKEN, Access.API_ADMIN, get_token),
    Route("DELETE", _TOKEN, Access.API_ADMIN, delete_token),
)

ROUTES = (*_DESCRIBED, *describing(_DESCRIBED))
