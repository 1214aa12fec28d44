package messages

// SessionEntry is what the directory must know of a session to find the device of an uplink.
type SessionEntry struct {
	DevAddr    DevAddr
	NwkSKey    Key
	LastFCntUp uint32
	HasFCntUp  bool
	FCnt16     bool // the device counts 16 bits
	ResetsFCnt bool // FCntUp may start again at 0
}
