"""From what a user types to the image or index that is meant: names, digests, the first digits of an ID."""

from __future__ import annotations

from typing import Final, NamedTuple

from core.digests import Digest
from core.errors import InvalidReferenceError
from core.references import Reference
from core.suggestions import did_you_mean, nearest
from images.database import Database
from images.errors import AmbiguousImageError, ImageNotFoundError

_MIN_PREFIX: Final = 4
_MOST_NEAR: Final = 3
_HEX: Final = frozenset("0123456789abcdef")


class Target(NamedTuple):
    """What was meant. Nothing of it is leased.

    index_digest: set when it is an index; image_id is then that of its image for this host, or of its first.
    name: the name in the store that found it; None when a digest did.
    is_given: whether the host's administrator gave that name; a run of the service names things for people only.
    """

    image_id: Digest
    index_digest: Digest | None = None
    name: Reference | None = None
    is_given: bool = True


class Lookup:
    """Finds images and indexes by name or digest."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def by_text(self, text: str) -> Target:
        """What a user means: a name, ``sha256:ID``, or the first digits (at least 4) of an ID.

        Raises ImageNotFoundError (with similar names as the hint), AmbiguousImageError, InvalidReferenceError.
        """
        digits = text.removeprefix("sha256:")
        may_be_id = _MIN_PREFIX <= len(digits) <= 64 and _HEX.issuperset(digits)
        if may_be_id and text != digits:
            return self._by_prefix(digits, text)
        try:
            found = self.by_name(Reference.parse(text))
        except InvalidReferenceError:
            if not may_be_id:
                raise
            found = None
        if found is None and may_be_id:
            return self._by_prefix(digits, text)
        if found is None:
            raise self.not_found(text)
        return found

    def of_base(self, text: str) -> Target:
        """As ``by_text``, for the host's own builds: names that runs gave do not count."""
        target = self.by_text(text)
        if not target.is_given:
            raise self.not_found(text)
        return target

    def by_name(self, reference: Reference) -> Target | None:
        """What has this name (``latest`` unless tagged), or what ``NAME@DIGEST`` pins."""
        name = reference.with_default_tag()
        row = self._database.one("SELECT image_id, index_digest, given FROM names WHERE name = ?", (str(name),))
        if row is not None:
            return _target(row[0], row[1], name)._replace(is_given=not row[2])
        if name.digest is None:
            return None
        if name.tag is not None:
            return self.by_name(name._replace(tag=None))  # the digest says it all
        return self._pinned(name.name, name.digest)

    def given(self, reference: Reference) -> Target | None:
        """What the host's administrator gave this name; for a digest, any name of the same repository will do."""
        name = reference.with_default_tag()
        row = self._database.one("SELECT image_id, index_digest FROM names WHERE name = ? AND given = ''", (str(name),))
        if row is not None:
            return _target(row[0], row[1], name)
        if name.digest is None:
            return None
        for found, image_id, index in self._database.all(_NAMED_BY_DIGEST, (name.digest,)):
            known = Reference.parse(found)
            if known.name == name.name and self._is_given(known):
                return _target(image_id, index, known)
        return None

    def _is_given(self, name: Reference) -> bool:
        row = self._database.one("SELECT given FROM names WHERE name = ?", (str(name.with_default_tag()),))
        return row is not None and not row[0]

    def is_named(self, reference: Reference, image_id: str) -> bool:
        """Whether the name (``latest`` unless tagged) is this image's, and no index's."""
        row = self._database.one(
            "SELECT image_id, index_digest FROM names WHERE name = ?", (str(reference.with_default_tag()),)
        )
        return row is not None and tuple(row) == (image_id, None)

    def manifest_of(self, image_id: str) -> Digest | None:
        """The digest of an image's manifest, by its ID; None when the image is not here."""
        row = self._database.one("SELECT manifest_digest FROM images WHERE id = ?", (image_id,))
        return None if row is None else Digest(row[0])

    def _pinned(self, name: str, digest: Digest) -> Target | None:
        for found, image_id, index in self._database.all(_NAMED_BY_DIGEST, (digest,)):
            if Reference.parse(found).name == name:
                return _target(image_id, index)
        row = self._database.one(
            "SELECT image_id, x.digest FROM repo_digests r LEFT JOIN indexes x ON x.digest = r.digest"
            " WHERE r.name = ? AND r.digest = ?",
            (name, digest),
        )
        return None if row is None else _target(*row)

    def _by_prefix(self, digits: str, text: str) -> Target:
        low = f"sha256:{digits}"
        rows = self._database.all("SELECT id, NULL FROM images WHERE id >= ? AND id < ? LIMIT 5", (low, low + "g"))
        if not rows and len(digits) == 64:
            rows = self._database.all(_BY_WHOLE_DIGEST, (low, low))
        if not rows:
            raise self.not_found(text)
        if len(rows) > 1:
            raise AmbiguousImageError(
                f"{text!r} fits several images: " + ", ".join(Digest(row[0]).short for row in rows),
                hint="give more digits of the ID",
            )
        return _target(*rows[0])

    def not_found(self, text: str) -> ImageNotFoundError:
        """The error, with names that are similar."""
        tags: dict[str, list[str]] = {}
        for (name,) in self._database.all("SELECT name FROM names ORDER BY name"):
            reference = Reference.parse(name)
            tags.setdefault(reference.familiar_name, []).append(reference.familiar)
        bare = text.partition("@")[0]
        repository = bare.rpartition(":")[0] if ":" in bare.rpartition("/")[2] else bare
        near = [name for close in nearest(repository, tags, _MOST_NEAR) for name in tags[close]]
        hint = did_you_mean(near[:_MOST_NEAR]) or "shiplap image ls shows the images there are"
        return ImageNotFoundError(f"no such image: {text}", hint=hint)


_NAMED_BY_DIGEST: Final = (
    "SELECT name, image_id, index_digest FROM names WHERE index_digest = ?1"
    " UNION ALL SELECT n.name, i.id, NULL FROM names n JOIN images i ON i.id = n.image_id"
    " WHERE i.id = ?1 OR i.manifest_digest = ?1"
    " UNION ALL SELECT n.name, e.image_id, NULL FROM names n JOIN index_entries e USING (index_digest)"
    " WHERE e.image_id = ?1"
    # An index's blobs have all of its manifests, and they can be looked up by digest.
    " UNION ALL SELECT n.name, e.image_id, NULL FROM names n JOIN index_blobs b USING (index_digest)"
    " JOIN index_entries e USING (index_digest)"
    " WHERE b.digest = ?1 AND e.manifest_digest = ?1 AND e.image_id IS NOT NULL"
)
_BY_WHOLE_DIGEST: Final = (
    "SELECT id, NULL FROM images WHERE manifest_digest = ? UNION ALL"
    " SELECT e.image_id, x.digest FROM indexes x JOIN index_entries e ON e.index_digest = x.digest"
    " WHERE x.digest = ? AND e.image_id IS NOT NULL LIMIT 1"
)


def _target(image_id: str, index: str | None, name: Reference | None = None) -> Target:
    return Target(Digest(image_id), None if index is None else Digest(index), name)
