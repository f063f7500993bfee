"""Bearer tokens: signed by a literal algorithm with a key of our own, or refused."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA512
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from regserver.auth import tokens as tokens_module
from regserver.auth.keys import derived
from regserver.auth.scopes import Scopes
from regserver.auth.tokens import TYPE, Binding, Tokens
from regserver.errors import Unauthorized
from regserver.model.access import Kind
from support.identities import ADDRESS, House, basic, bearer, opened_house, parts_of, scopes_of

NOBODY = Binding(Kind.ANONYMOUS)


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened_house(tmp_path) as opened:
        yield opened


async def good_claims(house: House) -> dict[str, Any]:
    return parts_of(await house.draw_token())[1]


async def refuses(house: House, token: str) -> None:
    with pytest.raises(Unauthorized) as refused:
        await house.tokens.verify(token)
    assert refused.value.error == "invalid_token"
    with pytest.raises(Unauthorized):
        await house.authenticator.caller(bearer(token), ADDRESS)


def segment(content: object) -> str:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


async def test_a_token_carries_what_the_specification_asks_for(house: House) -> None:
    registry = await house.open_registry("a")
    token = await house.draw_token(*await house.robots.credentials(registry), "a/api:pull,push", "a/web:pull")
    header, claims = parts_of(token)
    installation = await house.installation()
    assert header == {"alg": "ES256", "kid": await house.active_key(), "typ": TYPE}
    assert (claims["iss"], claims["aud"], claims["sub"]) == (installation, f"{installation}/tokens", "robot$a")
    assert claims["exp"] - claims["iat"] == 300
    assert claims["nbf"] == claims["iat"]
    assert claims["access"] == [
        {"type": "repository", "name": "a/api", "actions": ["pull", "push"]},
        {"type": "repository", "name": "a/web", "actions": ["pull"]},
    ]


async def test_each_token_has_a_session_of_its_own(house: House) -> None:
    sessions = {(await house.tokens.verify(await house.draw_token())).session for _ in range(3)}
    assert len(sessions) == 3
    assert {len(session) for session in sessions} == {32}


async def test_a_token_gives_back_what_it_was_given(house: House) -> None:
    binding = Binding(Kind.ROBOT, "cred_x", 7)
    scopes = Scopes(scopes_of("a/api", "b/c/d:pull").repositories, catalog=True)
    token, seconds = await house.tokens.issue("robot$a", binding, scopes)
    verified = await house.tokens.verify(token)
    assert (verified.subject, verified.binding, verified.scopes) == ("robot$a", binding, scopes)
    assert seconds == 300


@pytest.mark.parametrize(("setting", "seconds"), [(300, 300), (900, 900), (60, 60), (5, 60)])
async def test_a_token_lasts_as_configured_and_never_under_a_minute(tmp_path: Path, setting: int, seconds: int) -> None:
    async with opened_house(tmp_path, token_seconds=setting) as house:
        token, expires_in = await house.tokens.issue("", NOBODY, Scopes())
    claims = parts_of(token)[1]
    assert expires_in == claims["exp"] - claims["iat"] == seconds


@pytest.mark.parametrize("missing", ["exp", "iat", "nbf", "iss", "aud", "sub", "jti", "kind", "version", "access"])
async def test_a_token_without_a_claim_is_refused(house: House, missing: str) -> None:
    claims = await good_claims(house)
    assert (await house.tokens.verify(await house.forge(claims))).subject == ""
    del claims[missing]
    await refuses(house, await house.forge(claims))


WRONG_CLAIMS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "expired beyond the leeway": lambda claims: {"exp": claims["iat"] - 62},
    "not yet valid": lambda claims: {"nbf": claims["iat"] + 120},
    "issued in the future": lambda claims: {"iat": claims["iat"] + 120},
    "another installation's": lambda claims: {"iss": "inst_other"},
    "for another audience": lambda claims: {"aud": "inst_other/tokens"},
    "a password's audience": lambda claims: {"aud": claims["iss"] + "/passwords"},
    "several audiences": lambda claims: {"aud": [claims["aud"], "other"]},
    "no number for exp": lambda claims: {"exp": "tomorrow"},
    "an unknown kind": lambda claims: {"kind": "superuser"},
    "an unknown action": lambda claims: {"access": [{"type": "repository", "name": "a/b", "actions": ["own"]}]},
    "a malformed name": lambda claims: {"access": [{"type": "repository", "name": "../a", "actions": ["pull"]}]},
    "access that is no list": lambda claims: {"access": 7},
}


@pytest.mark.parametrize("wrong", WRONG_CLAIMS.values(), ids=WRONG_CLAIMS)
async def test_a_token_with_a_wrong_claim_is_refused(
    house: House, wrong: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    claims = await good_claims(house)
    await refuses(house, await house.forge({**claims, **wrong(claims)}))


@pytest.mark.parametrize("off", [{"exp": -30}, {"nbf": 30}, {"iat": 30}], ids=str)
async def test_a_clock_may_be_a_minute_off(house: House, off: dict[str, int]) -> None:
    claims = await good_claims(house)
    shifted = {name: claims["iat"] + seconds for name, seconds in off.items()}
    assert (await house.tokens.verify(await house.forge({**claims, **shifted}))).session == claims["jti"]


@pytest.mark.parametrize("alg", ["none", "None", "NONE", ""])
async def test_an_unsigned_token_is_refused(house: House, alg: str) -> None:
    token = await house.draw_token()
    header, claims = parts_of(token)
    unsigned = f"{segment({**header, 'alg': alg})}.{segment(claims)}."
    await refuses(house, unsigned)
    await refuses(house, unsigned + token.rpartition(".")[2])


@pytest.mark.parametrize("form", [PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1])
async def test_cve_2022_29217_the_public_key_is_no_shared_secret(house: House, form: PublicFormat) -> None:
    header, claims = parts_of(await house.draw_token())
    secret = house.keys.public(await house.active_key()).public_bytes(Encoding.PEM, form)
    signed = f"{segment({**header, 'alg': 'HS256'})}.{segment(claims)}"
    await refuses(house, f"{signed}.{segment(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}")


@pytest.mark.parametrize("stated", ["RS256", "PS256", "RS512"])
@pytest.mark.parametrize("really", ["PS256", "RS512"])
async def test_cve_2026_48523_only_rs256_counts_whatever_the_header_states(
    house: House, stated: str, really: str
) -> None:
    header, claims = parts_of(await house.draw_token())
    signed = f"{segment({**header, 'alg': stated})}.{segment(claims)}"
    key = house.keys.private(await house.active_key())
    if really == "PS256":
        signature = key.sign(signed.encode(), padding.PSS(padding.MGF1(SHA256()), 32), SHA256())
    else:
        signature = key.sign(signed.encode(), padding.PKCS1v15(), SHA512())
    await refuses(house, f"{signed}.{segment(signature)}")


async def test_a_token_of_an_earlier_version_is_still_good(house: House) -> None:
    header, claims = parts_of(await house.draw_token())
    key = house.keys.private(await house.active_key())
    earlier = signed_by(key, {**header, "alg": "RS256"}, claims)
    assert (await house.tokens.verify(earlier)).session == claims["jti"]


@pytest.mark.parametrize("stated", ["RS256", "ES256", "ES384", "ES256K"])
async def test_a_signature_of_one_kind_does_not_pass_for_the_other(house: House, stated: str) -> None:
    header, claims = parts_of(await house.draw_token())
    key_id = await house.active_key()
    signed = f"{segment({**header, 'alg': stated})}.{segment(claims)}"
    right = {"RS256": house.keys.sign, "ES256": house.keys.sign_token}.get(stated)
    for sign in (house.keys.sign, house.keys.sign_token):
        token = f"{signed}.{segment(sign(key_id, signed.encode()))}"
        if sign == right:
            assert (await house.tokens.verify(token)).session == claims["jti"]
        else:
            await refuses(house, token)


async def test_a_signature_on_the_same_curve_by_another_key_is_refused(house: House) -> None:
    header, claims = parts_of(await house.draw_token())
    await refuses(house, jwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), "ES256", headers=header))


@pytest.mark.parametrize(
    "signature", [b"", bytes(64), b"\xff" * 64, bytes(63), bytes(65), b"\x30\x06\x02\x01\x01\x02\x01\x01"]
)
async def test_what_is_no_signature_on_the_curve_is_refused(house: House, signature: bytes) -> None:
    signed = (await house.draw_token()).rpartition(".")[0]
    await refuses(house, f"{signed}.{segment(signature)}")


async def test_the_derived_key_is_always_the_same_one_and_each_key_s_own(house: House) -> None:
    key, other = house.keys.private(await house.active_key()), attackers_key()
    numbers = [derived(each).private_numbers() for each in (key, key, other)]
    assert numbers[0] == numbers[1] != numbers[2]


def attackers_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def signed_by(key: rsa.RSAPrivateKey, header: dict[str, Any], claims: dict[str, Any]) -> str:
    signed = f"{segment(header)}.{segment(claims)}"
    return f"{signed}.{segment(key.sign(signed.encode(), padding.PKCS1v15(), SHA256()))}"


async def test_cve_2025_24976_a_key_that_the_token_brings_along_is_not_looked_at(house: House) -> None:
    header, claims = parts_of(await house.draw_token())
    key = attackers_key()
    jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    without_kid = {name: value for name, value in header.items() if name != "kid"}
    for brought in ({"jwk": jwk}, {"jku": "http://127.0.0.1:1/keys"}, {"x5c": [pem]}, {"x5u": "http://127.0.0.1:1/"}):
        for base in (header, without_kid, {**header, "kid": "key_of_mine"}):
            await refuses(house, signed_by(key, {**base, **brought}, claims))


@pytest.mark.parametrize(
    "more",
    [{"crit": ["exp"]}, {"crit": []}, {"b64": False, "crit": ["b64"]}, {"zip": "DEF"}, {"jwk": {}}, {"x5t": "x"}],
    ids=str,
)
async def test_a_header_with_more_than_ours_is_refused_even_with_our_signature(
    house: House, more: dict[str, Any]
) -> None:
    header, claims = parts_of(await house.draw_token())
    await refuses(house, await house.forge(claims, {**header, **more}))


@pytest.mark.parametrize("less", ["kid", "typ"])
async def test_a_header_with_less_than_ours_is_refused(house: House, less: str) -> None:
    header, claims = parts_of(await house.draw_token())
    del header[less]
    await refuses(house, await house.forge(claims, header))


@pytest.mark.parametrize("typ", ["JWT", "at+JWT", "application/at+jwt", "", None, 1])
async def test_a_token_of_another_type_is_refused(house: House, typ: object) -> None:
    header, claims = parts_of(await house.draw_token())
    await refuses(house, await house.forge(claims, {**header, "typ": typ}))


@pytest.mark.parametrize(
    "kid",
    ["", "key_nowhere", "../../etc/passwd", "/dev/null", "active_key", "id", "a\0b", 7, None, ["x"], {}],
    ids=repr,
)
async def test_a_key_that_is_not_ours_is_refused(house: House, kid: object) -> None:
    header, claims = parts_of(await house.draw_token())
    await refuses(house, await house.forge(claims, {**header, "kid": kid}))


async def test_a_key_file_that_the_catalog_does_not_name_signs_for_nobody(house: House, tmp_path: Path) -> None:
    header, claims = parts_of(await house.draw_token())
    key, key_id = attackers_key(), (await house.active_key())[:-3] + "000"
    path = tmp_path / "keys" / f"{key_id}.pem"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    await refuses(house, signed_by(key, {**header, "kid": key_id}, claims))


async def test_another_key_under_our_key_s_name_is_refused(house: House) -> None:
    await refuses(house, signed_by(attackers_key(), *parts_of(await house.draw_token())))


async def test_a_changed_token_is_refused(house: House) -> None:
    header, claims = parts_of(token := await house.draw_token())
    parts = token.split(".")
    await refuses(house, ".".join([parts[0], segment({**claims, "kind": "admin"}), parts[2]]))
    await refuses(house, ".".join([segment({**header, "kid": "x"}), *parts[1:]]))
    await refuses(house, token[:-8] + ("AAAAAAAA" if token[-8:] != "AAAAAAAA" else "BBBBBBBB"))


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "a.b",
        "a.b.c.d",
        "\x7f.a.b",
        "=.=.=",
        segment(b"[" * 300) + ".a.b",
        segment(b'{"a":' * 70) + ".a.b",
        segment(b"[" * 100_000) + ".a.b",
        segment(b"not json") + ".a.b",
        segment([]) + ".a.b",
        segment(bytes([0xFF, 0xFE])) + ".a.b",
        "x" * 30_000,
    ],
    ids=lambda token: token[:24],
)
async def test_garbage_is_refused(house: House, token: str) -> None:
    await refuses(house, token)


async def test_a_password_is_no_token_and_a_token_is_no_password(house: House) -> None:
    username, password = await house.robots.credentials(await house.open_registry("a"))
    await refuses(house, password)
    token = await house.draw_token(username, password, "a/api")
    with pytest.raises(Unauthorized):
        await house.authenticator.caller(basic(username, token), ADDRESS)
    with pytest.raises(Unauthorized):
        await house.authenticator.account("admin", token)


async def test_a_password_dressed_up_as_a_token_is_refused(house: House) -> None:
    _, password = await house.robots.credentials(await house.open_registry("a"))
    await refuses(house, await house.forge(parts_of(password)[1]))


async def test_a_good_signature_is_checked_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    token, checked, decode = await house.draw_token(), [], jwt.decode

    def counted(*args: Any, **named: Any) -> Any:
        checked.append(args)
        return decode(*args, **named)

    monkeypatch.setattr(jwt, "decode", counted)
    first, again = await house.tokens.verify(token), await house.tokens.verify(token)
    assert first == again
    assert len(checked) == 1
    with pytest.raises(Unauthorized):
        await house.tokens.verify(token[:-4] + "AAAA")


async def test_a_remembered_signature_ends_with_its_token(house: House) -> None:
    now = [time.time()]
    tokens = Tokens(house.keys, house.core, clock=lambda: now[0])
    token, seconds = await tokens.issue("", NOBODY, Scopes())
    assert (await tokens.verify(token)).subject == ""
    now[0] += seconds + 59
    assert (await tokens.verify(token)).subject == ""
    now[0] += 2
    for _ in range(2):
        with pytest.raises(Unauthorized):
            await tokens.verify(token)


async def test_what_is_remembered_is_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens_module, "_REMEMBERED", 3)
    for _ in range(8):
        await house.tokens.verify(await house.draw_token())
    assert len(house.tokens._remembered) == 3


async def test_a_refused_token_is_not_remembered(house: House) -> None:
    for number in range(5):
        await refuses(house, f"a.b.c{number}")
    assert not house.tokens._remembered
