package client

// ReadInstall reads an event stream.
var ReadInstall = readInstall
