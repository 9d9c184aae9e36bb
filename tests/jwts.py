"""JWTs that must not open a channel, each wrong in one way: all the rest of it is right."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

HOUR = 3600
HS256 = {"alg": "HS256", "typ": "JWT"}


def part(content: Any) -> str:
    """One part of a token: bytes as they are, anything else as JSON."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def sign(secret: str, payload: Any, header: Any = HS256, hash_name: str = "sha256") -> str:
    """A token whose HMAC is right, whatever its header and payload say (RFC 7515, section 5.1)."""
    signed = f"{part(header)}.{part(payload)}"
    return f"{signed}.{part(hmac.new(secret.encode(), signed.encode(), hash_name).digest())}"


def claims(channel_id: str, **changed: Any) -> dict[str, Any]:
    """What a good token claims; what is changed to `...` is left out."""
    whole = {"sub": channel_id, "exp": int(time.time()) + HOUR, **changed}
    return {name: value for name, value in whole.items() if value is not ...}


def bad_jwts(secret: str, channel_id: str) -> dict[str, str]:
    """Tokens that are not valid for a channel, by what is wrong with them.

    Args:
        secret: of the key that a client connects with.
        channel_id: what it connects to.
    """
    now = int(time.time())
    right = claims(channel_id)
    good = sign(secret, right)
    header, payload, signature = good.split(".")
    own = "t" * 64  # a secret of who forges
    own_jwk = {"kty": "oct", "alg": "HS256", "k": part(own.encode())}

    def claiming(**changed: Any) -> str:
        return sign(secret, claims(channel_id, **changed))

    def headed(signer: str = secret, hash_name: str = "sha256", **names: Any) -> str:
        return sign(signer, right, names, hash_name)

    def unsigned(algorithm: Any) -> str:
        return f"{part({'alg': algorithm})}.{payload}."

    def raw(text: str) -> str:
        return sign(secret, text.encode())

    return {
        "no algorithm: none": unsigned("none"),
        "no algorithm: None": unsigned("None"),
        "no algorithm: NONE": unsigned("NONE"),
        "no algorithm: nOnE": unsigned("nOnE"),
        "no algorithm: none and a space": unsigned("none "),
        "no algorithm: empty": unsigned(""),
        "no algorithm: null": unsigned(None),
        "no algorithm, signed": headed(alg="none"),
        "no algorithm named": headed(typ="JWT"),
        "HS256 without a signature": unsigned("HS256"),
        "HS384": headed(alg="HS384", hash_name="sha384"),
        "HS512": headed(alg="HS512", hash_name="sha512"),
        "HS384 said of HS256": headed(alg="HS384"),
        "RS256 said of HS256": headed(alg="RS256"),
        "ES256 said of HS256": headed(alg="ES256"),
        "EdDSA said of HS256": headed(alg="EdDSA"),
        "HS256 said of HS512": headed(alg="HS256", hash_name="sha512"),
        "HS256 in small letters": headed(alg="hs256"),
        "a list of algorithms": headed(alg=["HS256"]),
        "another secret": headed(own, alg="HS256"),
        "an empty secret": headed("", alg="HS256"),
        "a hash of the secret": headed(hashlib.sha256(secret.encode()).hexdigest(), alg="HS256"),
        "the secret but for its last letter": headed(secret[:-1], alg="HS256"),
        "the forger's key as jwk": headed(own, alg="HS256", jwk=own_jwk),
        "the forger's key as jku": headed(own, alg="HS256", jku="http://127.0.0.1:9/keys"),
        "the forger's key as x5u": headed(own, alg="HS256", x5u="http://127.0.0.1:9/keys"),
        "a kid that is an empty file": headed("", alg="HS256", kid="../../../../dev/null"),
        "a kid that is a query": headed(own, alg="HS256", kid=f"x' UNION SELECT '{own}"),
        "a kid that is a number": headed(alg="HS256", kid=1),
        "a critical header that nobody knows": headed(alg="HS256", crit=["exp2"], exp2=1),
        "a payload that is not encoded": headed(alg="HS256", b64=False, crit=["b64"]),
        "a header that is a list": sign(secret, right, ["HS256"]),
        "a header that is no JSON": sign(secret, right, b"alg"),
        "expired": claiming(exp=now - HOUR),
        "expired long ago": claiming(exp=0),
        "expired before time began": claiming(exp=-1),
        "no exp": claiming(exp=...),
        "exp is null": claiming(exp=None),
        "exp is true": claiming(exp=True),
        "exp is text": claiming(exp="soon"),
        "exp is a list": claiming(exp=[now + HOUR]),
        "exp is an object": claiming(exp={"at": now + HOUR}),
        "exp is infinite": raw(f'{{"sub":"{channel_id}","exp":1e999}}'),
        "exp is no number": raw(f'{{"sub":"{channel_id}","exp":NaN}}'),
        "exp has too many digits": raw(f'{{"sub":"{channel_id}","exp":{"9" * 5000}}}'),
        "not yet valid": claiming(nbf=now + HOUR),
        "nbf is text": claiming(nbf="now"),
        "issued in the future": claiming(iat=now + HOUR),
        "iat is text": claiming(iat="now"),
        "another channel's": claiming(sub=f"{channel_id}2"),
        "that of a channel that it begins with": claiming(sub=channel_id[:-1]),
        "that of the channel by its path": claiming(sub=f"/v3/{channel_id}"),
        "another case": claiming(sub=channel_id.swapcase()),
        "a space after the channel": claiming(sub=f"{channel_id} "),
        "all channels": claiming(sub="*"),
        "no sub": claiming(sub=...),
        "sub is empty": claiming(sub=""),
        "sub is null": claiming(sub=None),
        "sub is true": claiming(sub=True),
        "sub is a fraction": claiming(sub=1.0),
        "sub is a list": claiming(sub=[channel_id]),
        "sub is an object": claiming(sub={"id": channel_id}),
        "sub twice, the last one another's": raw(f'{{"sub":"{channel_id}","sub":"x","exp":{now + HOUR}}}'),
        "claims within a claim": sign(secret, {"claims": right}),
        "a token within a token": sign(secret, good.encode(), {"alg": "HS256", "cty": "JWT"}),
        "a payload that is a list": sign(secret, [right]),
        "a payload that is text": sign(secret, json.dumps(right)),
        "a payload that is null": sign(secret, None),
        "a payload that is no JSON": raw("sub"),
        "a payload that is not UTF-8": sign(secret, b"\xff"),
        "an empty payload": sign(secret, b""),
        "another payload": f"{header}.{part(claims(channel_id, user='root'))}.{signature}",
        "the signature of another token": f"{header}.{payload}.{claiming(user='Ann').split('.')[2]}",
        "a cut signature": good[:-2],
        "a reversed signature": f"{header}.{payload}.{signature[::-1]}",
        "no signature": f"{header}.{payload}.",
        "two parts": f"{header}.{payload}",
        "four parts": f"{good}.{signature}",
        "five parts, as if encrypted": f"{header}.{payload}.{signature}.{payload}.{signature}",
        "parts in another order": f"{payload}.{header}.{signature}",
        "the JSON serialization": json.dumps({"payload": payload, "protected": header, "signature": signature}),
        "a header's word before it": f"Bearer {good}",
        "a space before it": f" {good}",
        "a line's end after it": f"{good}\n",
        "quotes around it": f'"{good}"',
        "the token twice": good * 2,
        "empty": "",
        "white space": " \t ",
        "garbage": "garbage",
        "dots": "...",
        "two dots": "..",
        "not ASCII": "é.ü.😀",
        "NUL": "\0",
        "null": "null",
        "10 kB of garbage": "x" * 10_000,
        "10 kB of garbage in three parts": ".".join("abc"[number] * 3333 for number in range(3)),
    }
