// Package repository reads a folder in the layout of the LoRaWAN Device Repository, as The Things Stack does for FORMATTER_REPOSITORY:
//
//	vendor/index.yaml             vendors: [{id, name, ...}]
//	vendor/<vendor>/index.yaml    endDevices: [<model>, ...]
//	vendor/<vendor>/<model>.yaml  firmwareVersions: [{version, profiles: {<region>: {id: <profile>, codec: <codec>}}}]
//	vendor/<vendor>/<profile>.yaml
//	vendor/<vendor>/<codec>.yaml  uplinkDecoder, downlinkEncoder, downlinkDecoder: {fileName, examples}
//	vendor/<vendor>/*.js          a file name that ends in .lua is taken for Lua
//
// Files are read when they are first needed and looked at again after some seconds, so a change of the folder needs no restart and no signal. What is
// broken in a vendor's files is an error for who asks for it, and a warning in the log; other vendors don't notice. No name in a file leads out of the
// vendor's folder.
package repository
