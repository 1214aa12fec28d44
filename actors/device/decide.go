package device

import (
	"time"

	"lorikeet/messages"
)

// Command is one of the closed set that Decide knows.
type Command interface{ command() }

// ReceiveUplink delivers a data uplink: all copies of one transmission, the best first after Decide has sorted them.
type ReceiveUplink struct {
	Copies  []messages.Frame // at least one; equal PHYPayloads
	Late    []messages.EUI64 // radio gateways whose copy of an earlier uplink came after it was decided
	Decoded messages.Decoded // of Opened.FRMPayload
	Err     string           // why there is no Decoded.Data
	// Location is where the decoded payload says that the device is; nil if it does not.
	Location *messages.Location
	Now      time.Time
	IDs      []string // correlation ids made for this step
	Random   string   // unguessable text, used if the record is new
}

// ReceiveJoin delivers a join-request: all copies of one transmission.
type ReceiveJoin struct {
	Copies       []messages.Frame
	DevAddr      messages.DevAddr // free address for the new session
	SessionKeyID []byte
	Now          time.Time
	IDs          []string
	Random       string
}

// PushDownlinks appends to the queue, or replaces it. Items have their ids and FRMPayloads.
type PushDownlinks struct {
	Items   []messages.Downlink
	Replace bool
	Now     time.Time
	IDs     []string
	Random  string
	// Of the request that Items are the first part of: what is still to come, so that it is refused as a whole if the queue can't hold it.
	MoreItems, MoreBytes int
}

// CancelDownlinks takes items out of the queue by their ids.
type CancelDownlinks struct {
	Items  []string
	Now    time.Time
	IDs    []string
	Random string
}

// ExpireDownlinks takes items out of the queue whose time is over.
type ExpireDownlinks struct {
	Now time.Time
	IDs []string
}

// FailDownlinks publishes that downlinks were refused before they reached the queue.
type FailDownlinks struct {
	Items  []messages.Downlink
	Reason *messages.Error
	Now    time.Time
	IDs    []string
	Random string
}

// ReportTransmission says what became of a Transmit effect after all windows and radio gateways it could use.
type ReportTransmission struct {
	SessionSeq uint32
	FCnt       uint32
	Err        messages.TxError // TxOK: sent
	Missed     bool             // no window could be reached in time: nothing was tried
	Now        time.Time
	IDs        []string
}

// SetSession sets the activation of a device from outside (ABP, or the move of a session). Zero keys keep what there is.
type SetSession struct {
	DevAddr          messages.DevAddr
	NwkSKey, AppSKey messages.Key
	KeyID            []byte
	HasFCntUp        bool
	LastFCntUp       uint32
	LastFCntDown     uint32
	Now              time.Time
	IDs              []string
	Random           string
}

// Reset forgets the sessions of a device that joins, the queue and the uplink counter of an ABP session. Nonces and FCntDown stay.
type Reset struct{}

// ApplyProfile takes over what the registry changed, as far as the session record repeats it.
type ApplyProfile struct{}

func (ReceiveUplink) command()      {}
func (ReceiveJoin) command()        {}
func (PushDownlinks) command()      {}
func (CancelDownlinks) command()    {}
func (ExpireDownlinks) command()    {}
func (FailDownlinks) command()      {}
func (ReportTransmission) command() {}
func (SetSession) command()         {}
func (Reset) command()              {}
func (ApplyProfile) command()       {}

// Decision is what follows from a command, in the order it is to be done: Next and Events are committed together, then the effects are carried out.
// Changed is false if Next is what was before; then there is nothing to commit but Events.
type Decision struct {
	Next     State
	Changed  bool
	Events   []Event
	Transmit *Transmit
	Refused  map[string]*messages.Error // of CancelDownlinks: what was not cancelled, by id
}

// Event is a fact that applications see. Exactly one body is set, by Type.
type Event struct {
	Type           messages.EventType
	ID             string // deterministic
	DevAddr        messages.DevAddr
	SessionKeyID   []byte
	CorrelationIDs []string
	Time           time.Time
	ReceivedAt     time.Time // of the join-request
	Uplink         *UplinkEvent
	Downlink       *messages.Downlink
	Err            *messages.Error // of EventDownFailed
	// PayloadLocation is where the newest decoded payload before this event said that the device was.
	PayloadLocation *messages.Location
	Location        *messages.Location // of EventLocationSolved
	// What the application needs that encrypts and decrypts by itself.
	AppSKey      messages.Key // of EventUplink and EventJoin; zero: payload crypto is not skipped, or there is no key
	LastFCntDown uint32       // of EventUplink, if payload crypto is skipped, and EventDownInvalidated
	Invalidated  []messages.Downlink
}

// UplinkEvent is the body of EventUplink.
type UplinkEvent struct {
	FPort           uint8
	FCnt            uint32
	FRMPayload      []byte
	Confirmed       bool
	Settings        messages.TxSettings
	Rx              []messages.RxMetadata
	ReceivedAt      time.Time
	PHYPayloadSize  int
	PacketErrorRate float32
	Decoded         messages.Decoded
	DecodeError     string
	Battery         *Battery
}

// Transmit is the effect of sending one class A answer: the same bytes in one of the windows through one of the radio gateways.
type Transmit struct {
	SessionSeq uint32
	FCnt       uint32
	Join       bool // a join-accept: nobody waits for a report
	PHYPayload []byte
	Windows    []Window
	Candidates []messages.Frame // receptions of the uplink, the best first
	Priority   messages.Priority
}

// Window is a receive window of the device.
type Window struct {
	Delay     time.Duration // after the end of the uplink
	Frequency uint32        // Hz
	DataRate  messages.DataRate
	Power     float32 // dBm EIRP
}

// Refusals of Decide. They are values: the shell counts them by name.
var (
	ErrNoSession  = messages.NotFound("no_device_session", "device has no session: let it join, or set its session")
	ErrReplay     = messages.Errorf(messages.CodePrecondition, "f_cnt_replayed", "frame counter was seen before")
	ErrRepetition = messages.Errorf(messages.CodePrecondition, "repetition", "repetition of an uplink that was delivered")
	ErrGap        = messages.Errorf(messages.CodePrecondition, "f_cnt_gap", "frame counter is too far ahead")
	ErrMIC        = messages.Errorf(messages.CodePrecondition, "mic", "message integrity code does not match")
	ErrMalformed  = messages.Errorf(messages.CodeInvalid, "malformed", "frame is malformed")
	ErrExhausted  = messages.Errorf(messages.CodePrecondition, "f_cnt_exhausted", "frame counter is used up: the device must join again")
	ErrNoKey      = messages.Errorf(messages.CodePrecondition, "no_app_key", "device has no AppKey: set root_keys.app_key")
	ErrDevNonce   = messages.Errorf(messages.CodePrecondition, "dev_nonce_used", "DevNonce was used before")
	ErrJoinNonce  = messages.Errorf(messages.CodePrecondition, "join_nonce_exhausted", "all JoinNonces are used: give the device a new AppKey and DevEUI")
	ErrNoJoin     = messages.Errorf(messages.CodePrecondition, "join_not_supported", "device does not join: set supports_join")
)

// Decide says what cmd does to a device in state s with profile p. It changes nothing: not s, not p, not cmd, not the world.
// A refusal is an error; then the Decision is empty.
func Decide(s State, p *Profile, cmd Command) (Decision, error) {
	switch cmd := cmd.(type) {
	case ReceiveUplink:
		return s.receiveUplink(p, cmd)
	case ReceiveJoin:
		return s.receiveJoin(p, cmd)
	case PushDownlinks:
		return s.pushDownlinks(p, cmd)
	case CancelDownlinks:
		return s.cancelDownlinks(p, cmd)
	case ExpireDownlinks:
		return s.expireDownlinks(p, cmd)
	case FailDownlinks:
		return s.failDownlinks(p, cmd)
	case ReportTransmission:
		return s.reportTransmission(p, cmd)
	case SetSession:
		return s.setSession(p, cmd)
	case Reset:
		return s.reset(p)
	case ApplyProfile:
		return s.applyProfile(p)
	case Restore:
		return s.restore(p, cmd)
	}
	panic("device: unknown command")
}

// named gives a record that is written first its incarnation.
func (s State) named(random string) State {
	if s.Incarnation == "" {
		s.Incarnation = random
	}
	return s
}

func (s State) eventID(p *Profile, suffix string) string {
	return p.ID.UID() + ":" + s.Incarnation + ":" + suffix
}
