package rest

import (
	"context"
	"maps"
	"net/http"
	"slices"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// Fleet makes, reads and restores many devices.
type Fleet interface {
	// CreateDevices makes devices of one application. The errors are those of EndDevices.CreateDevice, one for each device in its place.
	CreateDevices(ctx context.Context, applicationID string, devices []v3.EndDevice) []error
	// CheckDevice says what would be refused in a device by itself.
	CheckDevice(device v3.EndDevice) error
	// DeviceByEUI finds the device that has a pair of EUIs.
	DeviceByEUI(joinEUI, devEUI messages.EUI64) (messages.DeviceID, bool)
	// EachDevice calls do with the devices of an application, some at a time, in the order of their ids, and stops at its first error.
	EachDevice(ctx context.Context, applicationID string, do func([]v3.EndDevice) error) error
	// StoredState gives what the device's actor has made durable, without waking it; false if there is nothing.
	StoredState(ctx context.Context, id messages.DeviceID) (v3.Transfer, bool, error)
	// RestoreDevice takes over the state that a device had on another server. No counter goes back; the downlink counters of a session that is new here
	// begin fCntDownStep further.
	RestoreDevice(ctx context.Context, id messages.DeviceID, t v3.Transfer, fCntDownStep uint32) error
}

// passphraseHeader carries the passphrase of a sealed export. It is never part of a URL, which would be logged on the way.
const passphraseHeader = "X-Lorikeet-Passphrase"

func fleetRoutes() []route {
	const devices = "/applications/:application_id/devices"
	return []route{
		{http.MethodPost, devices + "/import", writeDevices, (*Server).importDevices},
		{http.MethodGet, devices + "/export", exportDevices, (*Server).exportDevices},
		{http.MethodGet, "/edtc/formats", anyKey, (*Server).listTemplateFormats},
		{http.MethodPost, "/edtc/convert", anyKey, (*Server).convertTemplates},
	}
}

// exportDevices is for those who may read devices with their keys, sealed or not.
var exportDevices = application(messages.RightApplicationDevicesRead, messages.RightApplicationDevicesReadKeys)

func (c *call) fleet() (Fleet, error) {
	if c.server.cfg.Fleet == nil {
		return nil, messages.Errorf(messages.CodePrecondition, "fleet_not_available", "this server does not import or export devices")
	}
	if !c.server.cfg.Registry.ApplicationExists(c.app()) {
		return nil, messages.NotFound("application_not_found", "application %q not found", shorten(c.app()))
	}
	return c.server.cfg.Fleet, nil
}

// lockAll is lock for many devices of one application. The stripes are taken in their order, so that two can't wait for each other.
func (l *locks) lockAll(applicationID string, ids []messages.DeviceID) (unlock func()) {
	stripes := map[int]struct{}{}
	for _, id := range ids {
		stripes[l.stripe(id)] = struct{}{}
	}
	app := l.application(applicationID)
	app.RLock()
	held := slices.Sorted(maps.Keys(stripes))
	for _, i := range held {
		l.devices[i].Lock()
	}
	return func() {
		for _, i := range held {
			l.devices[i].Unlock()
		}
		app.RUnlock()
	}
}
