// Package devicefile reads files of end devices, one device after the other and in bounded memory, and writes and reads exports of complete devices.
//
// It understands The Things Stack's JSON (one object, a list, objects one after the other, wrapped as {"end_device":{…}} or {"result":{…}}) and its
// CSV, what ChirpStack v4's API gives of devices, keys and activations, and Lorikeet's own export, whose devices are sealed under a passphrase. A
// device that can't be read is a Row with an error and spoils no other; only what makes the rest of the file unreadable ends the reading.
package devicefile

import (
	"encoding/json"

	"lorikeet/messages"
)

// Format of a file. The first two are named as The Things Stack names its template formats.
type Format string

const (
	JSON       Format = "the-things-stack"
	CSV        Format = "the-things-stack-csv"
	ChirpStack Format = "chirpstack" // JSON; a CSV of ChirpStack is recognised by its columns
	Sealed     Format = "lorikeet"
)

// Options of a Reader.
type Options struct {
	Format     Format // "": found out by the first bytes
	Passphrase []byte // of a sealed export
	// Defaults stand in for what a device of the file does not say.
	FrequencyPlanID, LoRaWANVersion, LoRaWANPHYVersion string
}

// Row is one device of a file.
type Row struct {
	Number   int             // from 1
	DeviceID string          // as far as it is known
	Device   json.RawMessage // v3.Transfer in snake_case; nil if there is an error
	Warnings []string        // what was left out or changed
	Err      error           // what is wrong, a messages.Error
}

const (
	maxRow   = 4 << 20 // bytes of one device, what is read ahead included
	maxDepth = 100     // of nested objects and lists
)

func invalid(format string, args ...any) *messages.Error {
	return messages.Invalid("invalid_device_file", format, args...)
}
