"""--cache-from and --cache-to: buildx's syntax, and an error for all that is not supported."""

from __future__ import annotations

import pytest

from builder.cacheio.options import parse_cache_from, parse_cache_to
from builder.errors import CacheOptionError
from builder.request.cache import CacheFrom, CacheTo

_DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("app/cache", CacheFrom("registry", "docker.io/app/cache:latest")),
        ("type=registry,ref=host:5000/app:main", CacheFrom("registry", "host:5000/app:main")),
        ("type=local,src=/some/dir", CacheFrom("local", "/some/dir")),
        ("type=local,src=dir,tag=v1", CacheFrom("local", "dir", "v1")),
        (f"type=local,src=dir,digest={_DIGEST}", CacheFrom("local", "dir", "latest", _DIGEST)),
        ('type=local,"src=dir,with,commas"', CacheFrom("local", "dir,with,commas")),
    ],
)
def test_cache_from(text: str, expected: CacheFrom) -> None:
    assert parse_cache_from(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("type=inline", CacheTo("inline")),
        ("host:5000/app", CacheTo("registry", "host:5000/app:latest")),
        ("type=registry,ref=a/b,mode=max", CacheTo("registry", "docker.io/a/b:latest", mode="max")),
        ("type=local,dest=dir,tag=t,ignore-error=true", CacheTo("local", "dir", "t", ignore_error=True)),
        ("type=local,dest=dir,ignore-error=t", CacheTo("local", "dir", ignore_error=True)),
        ("type=local,dest=d,compression=zstd", CacheTo("local", "d", compression="zstd")),
        ("type=local,dest=d,compression=zstd,compression-level=7", CacheTo("local", "d", compression="zstd", level=7)),
        ("type=local,dest=d,force-compression=true", CacheTo("local", "d", level=1)),
        ("type=local,dest=d,oci-mediatypes=true,image-manifest=1", CacheTo("local", "d")),
    ],
)
def test_cache_to(text: str, expected: CacheTo) -> None:
    assert parse_cache_to(text) == expected


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "no type", "types: local, registry, inline"),
        ("mode=max", "no type", "types"),
        ("type=gha", "type=gha is not supported", "type=registry"),
        ("type=locale,dest=x", "unknown type 'locale'", "did you mean type=local?"),
        ("type=local", "dest is missing", "dest="),
        ("type=registry", "ref is missing", "ref="),
        ("type=registry,ref=UPPER", "invalid image name", "lower case"),
        ("type=local,dest=x,mode=most", "mode=most is none of min, max", None),
        ("type=local,dest=x,compression=estargz", "compression=estargz is none of", None),
        ("type=local,dest=x,compression=gzip,compression-level=9", "no level of gzip", "levels: 0 to 3"),
        ("type=local,dest=x,oci-mediatypes=false", "oci-mediatypes=false is not supported", "OCI image manifest"),
        ("type=local,dest=x,image-manifest=false", "image-manifest=false is not supported", "OCI image manifest"),
        ("type=local,dest=x,ignore-error=maybe", "neither true nor false", None),
        ("type=local,dest=x,dest=y", "dest is given twice", None),
        ("type=local,dest=x,mod=max", "unsupported option 'mod'", "did you mean mode?"),
        ("type=inline,mode=max", "unsupported option 'mode'", "supported: type"),
        ("type=local,dest", "'dest' is not key=value", None),
    ],
)
def test_cache_to_that_cannot_be_done_says_why(text: str, message: str, hint: str | None) -> None:
    with pytest.raises(CacheOptionError, match="invalid --cache-to") as caught:
        parse_cache_to(text)
    assert message in caught.value.message
    assert (hint or "") in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type=inline", "an inline cache is read from the image that has it"),
        ("type=local,src=x,mode=max", "unsupported option 'mode'"),
        ("type=local,src=x,digest=abc", "not a digest"),
        ("type=s3,bucket=b", "type=s3 is not supported"),
    ],
)
def test_cache_from_that_cannot_be_done_says_why(text: str, message: str) -> None:
    with pytest.raises(CacheOptionError, match="invalid --cache-from") as caught:
        parse_cache_from(text)
    assert message in caught.value.message
