"""JWTs that must not open a channel. Each is wrong in exactly one way."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

HOUR = 3600
HS256 = {"alg": "HS256", "typ": "JWT"}


def part(content: Any) -> str:
    """Encode one part of a token: bytes as they are, anything else as JSON."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def sign(secret: str, payload: Any, header: Any = HS256, hash_name: str = "sha256") -> str:
    """Return a token with a correct HMAC, whatever its header and payload say (RFC 7515, section 5.1)."""
    signed = f"{part(header)}.{part(payload)}"
    return f"{signed}.{part(hmac.new(secret.encode(), signed.encode(), hash_name).digest())}"


def claims(channel_id: str, **changed: Any) -> dict[str, Any]:
    """Return the claims of a valid token with some changes; a claim that is changed to `...` is left out."""
    whole = {"sub": channel_id, "exp": int(time.time()) + HOUR, **changed}
    return {name: value for name, value in whole.items() if value is not ...}


def bad_jwts(secret: str, channel_id: str) -> dict[str, str]:
    """Return tokens that are not valid for a channel, by what is wrong with them.

    Args:
        secret: the secret of the API key that the client connects with.
        channel_id: the channel that the client connects to.
    """
    now = int(time.time())
    right = claims(channel_id)
    good = sign(secret, right)
    header, payload, signature = good.split(".")
    attacker_secret = "t" * 64
    attacker_jwk = {"kty": "oct", "alg": "HS256", "k": part(attacker_secret.encode())}

    def with_claims(**changed: Any) -> str:
        return sign(secret, claims(channel_id, **changed))

    def with_header(signer: str = secret, hash_name: str = "sha256", **names: Any) -> str:
        return sign(signer, right, names, hash_name)

    def unsigned(algorithm: Any) -> str:
        return f"{part({'alg': algorithm})}.{payload}."

    def with_payload(text: str) -> str:
        return sign(secret, text.encode())

    return {
        "no algorithm: none": unsigned("none"),
        "no algorithm: None": unsigned("None"),
        "no algorithm: NONE": unsigned("NONE"),
        "no algorithm: nOnE": unsigned("nOnE"),
        "no algorithm: none and a space": unsigned("none "),
        "no algorithm: empty": unsigned(""),
        "no algorithm: null": unsigned(None),
        "no algorithm, signed": with_header(alg="none"),
        "no algorithm named": with_header(typ="JWT"),
        "HS256 without a signature": unsigned("HS256"),
        "HS384": with_header(alg="HS384", hash_name="sha384"),
        "HS512": with_header(alg="HS512", hash_name="sha512"),
        "HS256 declared as HS384": with_header(alg="HS384"),
        "HS256 declared as RS256": with_header(alg="RS256"),
        "HS256 declared as ES256": with_header(alg="ES256"),
        "HS256 declared as EdDSA": with_header(alg="EdDSA"),
        "HS512 declared as HS256": with_header(alg="HS256", hash_name="sha512"),
        "HS256 in lower case": with_header(alg="hs256"),
        "a list of algorithms": with_header(alg=["HS256"]),
        "another secret": with_header(attacker_secret, alg="HS256"),
        "an empty secret": with_header("", alg="HS256"),
        "a hash of the secret": with_header(hashlib.sha256(secret.encode()).hexdigest(), alg="HS256"),
        "the secret without its last character": with_header(secret[:-1], alg="HS256"),
        "the attacker's key as jwk": with_header(attacker_secret, alg="HS256", jwk=attacker_jwk),
        "the attacker's key as jku": with_header(attacker_secret, alg="HS256", jku="http://127.0.0.1:9/keys"),
        "the attacker's key as x5u": with_header(attacker_secret, alg="HS256", x5u="http://127.0.0.1:9/keys"),
        "a kid that is an empty file": with_header("", alg="HS256", kid="../../../../dev/null"),
        "a kid that is a query": with_header(attacker_secret, alg="HS256", kid=f"x' UNION SELECT '{attacker_secret}"),
        "a kid that is a number": with_header(alg="HS256", kid=1),
        "an unknown critical header": with_header(alg="HS256", crit=["exp2"], exp2=1),
        "a payload that is not encoded": with_header(alg="HS256", b64=False, crit=["b64"]),
        "a header that is a list": sign(secret, right, ["HS256"]),
        "a header that is not JSON": sign(secret, right, b"alg"),
        "expired": with_claims(exp=now - HOUR),
        "expired long ago": with_claims(exp=0),
        "expired before 1970": with_claims(exp=-1),
        "no exp": with_claims(exp=...),
        "exp is null": with_claims(exp=None),
        "exp is true": with_claims(exp=True),
        "exp is text": with_claims(exp="soon"),
        "exp is a list": with_claims(exp=[now + HOUR]),
        "exp is an object": with_claims(exp={"at": now + HOUR}),
        "exp is infinite": with_payload(f'{{"sub":"{channel_id}","exp":1e999}}'),
        "exp is NaN": with_payload(f'{{"sub":"{channel_id}","exp":NaN}}'),
        "exp has too many digits": with_payload(f'{{"sub":"{channel_id}","exp":{"9" * 5000}}}'),
        "not yet valid": with_claims(nbf=now + HOUR),
        "nbf is text": with_claims(nbf="now"),
        "issued in the future": with_claims(iat=now + HOUR),
        "iat is text": with_claims(iat="now"),
        "another channel's": with_claims(sub=f"{channel_id}2"),
        "a prefix of the channel": with_claims(sub=channel_id[:-1]),
        "the path of the channel": with_claims(sub=f"/v3/{channel_id}"),
        "the channel in another case": with_claims(sub=channel_id.swapcase()),
        "a space after the channel": with_claims(sub=f"{channel_id} "),
        "a wildcard": with_claims(sub="*"),
        "no sub": with_claims(sub=...),
        "sub is empty": with_claims(sub=""),
        "sub is null": with_claims(sub=None),
        "sub is true": with_claims(sub=True),
        "sub is a fraction": with_claims(sub=1.0),
        "sub is a list": with_claims(sub=[channel_id]),
        "sub is an object": with_claims(sub={"id": channel_id}),
        "two subs, the last one wrong": with_payload(f'{{"sub":"{channel_id}","sub":"x","exp":{now + HOUR}}}'),
        "claims within a claim": sign(secret, {"claims": right}),
        "a token within a token": sign(secret, good.encode(), {"alg": "HS256", "cty": "JWT"}),
        "a payload that is a list": sign(secret, [right]),
        "a payload that is text": sign(secret, json.dumps(right)),
        "a payload that is null": sign(secret, None),
        "a payload that is not JSON": with_payload("sub"),
        "a payload that is not UTF-8": sign(secret, b"\xff"),
        "an empty payload": sign(secret, b""),
        "another payload": f"{header}.{part(claims(channel_id, user='root'))}.{signature}",
        "the signature of another token": f"{header}.{payload}.{with_claims(user='Ann').split('.')[2]}",
        "a truncated signature": good[:-2],
        "a reversed signature": f"{header}.{payload}.{signature[::-1]}",
        "no signature": f"{header}.{payload}.",
        "two parts": f"{header}.{payload}",
        "four parts": f"{good}.{signature}",
        "five parts, as in an encrypted token": f"{header}.{payload}.{signature}.{payload}.{signature}",
        "parts in another order": f"{payload}.{header}.{signature}",
        "the JSON serialization": json.dumps({"payload": payload, "protected": header, "signature": signature}),
        "Bearer before it": f"Bearer {good}",
        "a space before it": f" {good}",
        "a line break after it": f"{good}\n",
        "quotes around it": f'"{good}"',
        "the token twice": good * 2,
        "empty": "",
        "whitespace": " \t ",
        "garbage": "garbage",
        "dots": "...",
        "two dots": "..",
        "not ASCII": "é.ü.😀",
        "NUL": "\0",
        "null": "null",
        "10 kB of garbage": "x" * 10_000,
        "10 kB of garbage in three parts": ".".join("abc"[number] * 3333 for number in range(3)),
    }
