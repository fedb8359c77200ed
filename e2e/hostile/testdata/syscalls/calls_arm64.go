package main

// There are no other interfaces to the kernel that a 64-bit program could use.
var machineCode []byte

const x32Bit = 0
