package persistence

import (
	"strings"

	"lorikeet/messages"
)

// What every store accepts. Beyond it a write is refused as invalid, with an error that names the limit.
const (
	MaxName   = 512       // bytes of an id, a cursor name or an event id
	MaxRecord = 1_000_000 // bytes of a session record, a document or the JSON of an event
	MaxChange = 3_000_000 // bytes of one Commit or one WriteDocuments
	MaxWrites = 5_000     // parts of one Commit or one WriteDocuments
)

// CheckApplication refuses what can't be the id of an application.
func CheckApplication(id string) error {
	if id == "" || len(id) > MaxName || strings.ContainsAny(id, "./\x00") {
		return messages.Invalid("invalid_id", "application id %.40q can't be stored: validate ids before they get here", id)
	}
	return nil
}

// CheckDevice refuses what can't be the id of a device.
func CheckDevice(d messages.DeviceID) error {
	if err := CheckApplication(d.ApplicationID); err != nil {
		return err
	}
	if d.DeviceID == "" || len(d.DeviceID) > MaxName || strings.ContainsAny(d.DeviceID, ".\x00") {
		return messages.Invalid("invalid_id", "device id %.40q can't be stored: validate ids before they get here", d.DeviceID)
	}
	return nil
}

// CheckCursor refuses what can't be the name of a cursor. A name starts with the application id and a slash.
func CheckCursor(name string) error {
	app, rest, _ := strings.Cut(name, "/")
	if CheckApplication(app) != nil || rest == "" || len(name) > MaxName {
		return messages.Invalid("invalid_cursor", "cursor name %.60q: want application/name", name)
	}
	return nil
}

// CheckCommit refuses a commit that is too large or has names that can't be stored.
func CheckCommit(c messages.Commit) error {
	if err := CheckDevice(c.Device); err != nil {
		return err
	}
	if len(c.Session) > MaxRecord {
		return tooLarge("session record", c.Device.UID(), len(c.Session), MaxRecord)
	}
	total := len(c.Session)
	for i := range c.Events {
		e := &c.Events[i]
		if err := CheckDevice(e.Device); err != nil {
			return err
		}
		if len(e.ID) > MaxName || len(e.Type) > MaxName {
			return messages.Invalid("invalid_event", "an event of %s has an id or type of more than %d bytes", c.Device.UID(), MaxName)
		}
		if len(e.JSON) > MaxRecord {
			return tooLarge("event", c.Device.UID(), len(e.JSON), MaxRecord)
		}
		total += len(e.JSON) + len(e.ID) + 200
	}
	return checkTotal(len(c.Events), total)
}

// CheckWrites refuses a change of the registry that is too large or has names that can't be stored.
func CheckWrites(writes []messages.Write) error {
	total := 0
	for i := range writes {
		w := &writes[i]
		if w.Kind == "" || len(w.Kind) > MaxName || strings.Contains(string(w.Kind), "\x00") || w.ID == "" || len(w.ID) > MaxName {
			return messages.Invalid("invalid_id", "document %.40q of kind %.40q can't be stored: validate ids before they get here", w.ID, w.Kind)
		}
		if len(w.Value) > MaxRecord {
			return tooLarge("document", w.ID, len(w.Value), MaxRecord)
		}
		total += len(w.Value) + len(w.ID) + 200
	}
	return checkTotal(len(writes), total)
}

func checkTotal(parts, size int) error {
	if parts > MaxWrites || size > MaxChange {
		return messages.Invalid("change_too_large", "a change of %d parts and %d bytes is too large to be made at once (at most %d parts and %d bytes): split it", parts, size, MaxWrites, MaxChange)
	}
	return nil
}

func tooLarge(what, name string, size, limit int) error {
	return messages.Invalid("record_too_large", "%s of %s has %d bytes, more than the %d that are stored", what, name, size, limit)
}
