package instance

// DefaultState bounds the /state of a plugin whose plan says nothing, bytes.
const DefaultState = 256 << 20
