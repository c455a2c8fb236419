-- name: put_artifact
-- Keeps bytes under their hash; the same bytes are kept once.
INSERT INTO artifacts (digest, media_type, size_bytes, content)
VALUES ($1, $2, $3, $4)
ON CONFLICT (digest) DO NOTHING;

-- name: get_artifact
-- The bytes that a hash names.
SELECT content
FROM artifacts
WHERE digest = $1;

-- name: has_artifact
-- Whether a hash names anything, without reading it.
SELECT EXISTS (SELECT 1 FROM artifacts WHERE digest = $1);
