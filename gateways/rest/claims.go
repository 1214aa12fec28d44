package rest

import (
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"strings"
	"time"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// Claims is the part of the Registry about devices that change hands.
type Claims interface {
	DeviceByEUI(joinEUI, devEUI messages.EUI64) (messages.DeviceID, bool)
	// ClaimingAllowed says whether who knows the code of a device may take it out of the application.
	ClaimingAllowed(ctx context.Context, app string) (bool, error)
	AllowClaiming(ctx context.Context, app string, allowed bool) error
	// MoveDevice takes a device to another application, in one step.
	MoveDevice(ctx context.Context, from, to messages.DeviceID, change func(*v3.EndDevice) error) (v3.EndDevice, error)
}

// DeviceMover moves what a device is beside its settings.
type DeviceMover interface {
	// MoveDevice gives a device another id, with session, counters, nonces and queue; register changes the registry in the middle of it.
	MoveDevice(ctx context.Context, from, to messages.DeviceID, register func() error) error
}

func claimRoutes() []route {
	const device = "/edcs/claim/:application_id/devices"
	authorize := application(messages.RightApplicationSettingsBasic, messages.RightApplicationDevicesWrite, messages.RightApplicationDevicesReadKeys)
	return []route{
		{http.MethodPost, "/edcs/claim", anyKey, (*Server).claimDevice},
		{http.MethodPost, "/edcs/claim/info", anyKey, (*Server).claimInfo},
		{http.MethodPost, "/edcs/claim/info/batch", anyKey, (*Server).claimInfos},
		{http.MethodGet, device + "/:device_id", readDevices, (*Server).claimStatus},
		{http.MethodDelete, device + "/:device_id", writeDevices, (*Server).unclaimDevice},
		{http.MethodDelete, device + "/batch", writeDevices, (*Server).unclaimDevices},
		{http.MethodPost, "/edcs/applications/:application_id/authorize", authorize, (*Server).allowClaiming},
		{http.MethodDelete, "/edcs/applications/:application_id/authorize", authorize, (*Server).forbidClaiming},
	}
}

// claimRequest names a device by its EUIs and the code that proves who owns it, or by its QR code which has both, and where it is to go.
type claimRequest struct {
	AuthenticatedIdentifiers *authenticatedIDs  `json:"authenticated_identifiers,omitempty"`
	QRCode                   string             `json:"qr_code,omitempty"` // base64 of the text, or the text itself
	TargetApplicationIDs     *v3.ApplicationIDs `json:"target_application_ids"`
	TargetDeviceID           string             `json:"target_device_id,omitempty"`
	TargetFrequencyPlanID    string             `json:"target_frequency_plan_id,omitempty"` // additive
}

type authenticatedIDs struct {
	JoinEUI            *messages.EUI64 `json:"join_eui"`
	DevEUI             *messages.EUI64 `json:"dev_eui"`
	AuthenticationCode string          `json:"authentication_code"`
}

// claimDevice takes a device of another application of this server, with its keys and its session.
func (s *Server) claimDevice(c *call) error {
	req, err := decodeBody[claimRequest](c)
	if err != nil {
		return err
	}
	ids, err := req.device()
	if err != nil {
		return err
	}
	app := req.target()
	if err := c.mayClaimInto(app); err != nil {
		return err
	}
	from, ok := s.cfg.Registry.DeviceByEUI(*ids.JoinEUI, *ids.DevEUI)
	if !ok {
		return messages.NotFound("end_device_not_found",
			"no end device with JoinEUI %s and DevEUI %s is registered in this server: register it with its root keys", ids.JoinEUI, ids.DevEUI)
	}
	to := messages.DeviceID{ApplicationID: app, DeviceID: cmp.Or(req.TargetDeviceID, from.DeviceID)}
	if err := messages.ValidateID(to.DeviceID); err != nil {
		return messages.Invalid("invalid_id", "target_device_id: %w", err)
	}
	ctx, cancel := c.steadfast()
	defer cancel()
	if err := s.mayClaim(ctx, c, from, ids.AuthenticationCode); err != nil {
		return err
	}
	moved, err := s.move(ctx, from, to, func(d *v3.EndDevice) error {
		d.FrequencyPlanID = cmp.Or(req.TargetFrequencyPlanID, d.FrequencyPlanID)
		return nil
	})
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, moved.IDs)
}

func (r claimRequest) target() string {
	if r.TargetApplicationIDs == nil {
		return ""
	}
	return r.TargetApplicationIDs.ApplicationID
}

// device gives the EUIs and the code.
func (r claimRequest) device() (ids authenticatedIDs, err error) {
	switch given := r.AuthenticatedIdentifiers; {
	case r.target() == "":
		return ids, messages.Invalid("no_target_application_ids", `the body does not say to which application: add "target_application_ids":{"application_id":"…"}`)
	case (given == nil) == (r.QRCode == ""):
		return ids, messages.Invalid("no_source_device", "the body does not name a device: send either qr_code or authenticated_identifiers with join_eui, dev_eui and authentication_code")
	case given != nil:
		ids = *given
	default:
		code, _, err := readQRCode(r.QRCode)
		if err != nil {
			return ids, err
		}
		ids = authenticatedIDs{&code.JoinEUI, &code.DevEUI, code.OwnerToken}
	}
	switch {
	case ids.JoinEUI == nil || ids.DevEUI == nil:
		return ids, messages.Invalid("no_euis", "authenticated_identifiers lacks join_eui or dev_eui")
	case ids.AuthenticationCode == "":
		return ids, messages.Invalid("no_authentication_code", "there is no authentication code (owner token), neither in the body nor in the QR code")
	}
	return ids, nil
}

func (c *call) mayClaimInto(app string) error {
	switch {
	case messages.ValidateID(app) != nil:
		return messages.Invalid("invalid_id", "target_application_ids.application_id %q: use 3 to 36 lower-case letters, digits and single dashes", shorten(app))
	case !c.access.Admin && c.access.ApplicationID != app:
		return noApplicationRights(app)
	case !c.access.Can(app, messages.RightApplicationDevicesWrite):
		return insufficient(app, messages.RightApplicationDevicesWrite)
	case !c.server.cfg.Registry.ApplicationExists(app):
		return messages.NotFound("application_not_found", "application %q not found", app)
	}
	return nil
}

// mayClaim checks the code, and that the owner of the application wants its devices to be claimed. Wrong codes of one address are limited, as wrong
// API keys are.
func (s *Server) mayClaim(ctx context.Context, c *call, id messages.DeviceID, code string) error {
	dev, err := s.cfg.Registry.Device(ctx, id)
	if err != nil {
		return err
	}
	allowed, err := s.cfg.Registry.ClaimingAllowed(ctx, id.ApplicationID)
	if err != nil {
		return err
	}
	claim, err := readClaimCode(dev)
	if err != nil {
		return err
	}
	owner := c.access.Can(id.ApplicationID, messages.RightApplicationDevicesWrite, messages.RightApplicationDevicesReadKeys)
	now := time.Now()
	switch from := c.RealIP(); {
	case !allowed && !owner:
		return messages.Errorf(messages.CodeForbidden, "claiming_not_authorized",
			"the application that has the device does not let its devices be claimed: its owner allows it with POST %s/edcs/applications/{application_id}/authorize", prefix)
	case claim.Value == "":
		return messages.Errorf(messages.CodePrecondition, "no_claim_authentication_code", "the device has no claim_authentication_code: its owner sets it first")
	case !s.attempts.allow(from, ""):
		return c.tooMany()
	case subtle.ConstantTimeCompare([]byte(claim.Value), []byte(code)) != 1:
		s.attempts.failed(from)
		return messages.Errorf(messages.CodeForbidden, "invalid_claim_authentication_code", "the authentication code is not that of the device")
	case claim.ValidFrom != nil && now.Before(*claim.ValidFrom) || claim.ValidTo != nil && now.After(*claim.ValidTo):
		return messages.Errorf(messages.CodeForbidden, "claim_authentication_code_expired", "the authentication code of the device is not valid now")
	}
	return nil
}

// move takes a device to another application. Both ids are locked in one order, so that no two moves wait for each other.
func (s *Server) move(ctx context.Context, from, to messages.DeviceID, change func(*v3.EndDevice) error) (moved v3.EndDevice, err error) {
	if from.ApplicationID == to.ApplicationID {
		return moved, messages.Errorf(messages.CodeConflict, "already_claimed", "the device is in application %q already, as %q", from.ApplicationID, from.DeviceID)
	}
	defer s.locks.lockBoth(from, to)()
	err = s.cfg.Devices.MoveDevice(ctx, from, to, func() (err error) {
		moved, err = s.cfg.Registry.MoveDevice(ctx, from, to, change)
		return err
	})
	if err == nil && moved.IDs.DeviceID == "" { // done by a write whose answer got lost
		moved, err = s.cfg.Registry.Device(ctx, to)
	}
	return moved, err
}

type claimInfoRequest struct {
	JoinEUI *messages.EUI64 `json:"join_eui"`
}

type claimInfoBody struct {
	JoinEUI          messages.EUI64 `json:"join_eui"`
	SupportsClaiming bool           `json:"supports_claiming"`
}

func (r claimInfoRequest) info() (claimInfoBody, error) {
	if r.JoinEUI == nil {
		return claimInfoBody{}, messages.Invalid("no_join_eui", `join_eui is missing: send {"join_eui":"70B3D57ED0000000"}`)
	}
	return claimInfoBody{*r.JoinEUI, true}, nil // the server is the join server of all
}

func (s *Server) claimInfo(c *call) error {
	req, err := decodeBody[claimInfoRequest](c)
	if err != nil {
		return err
	}
	info, err := req.info()
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, info)
}

type claimInfosRequest struct {
	Requests []claimInfoRequest `json:"requests"`
}

type claimInfosBody struct {
	Infos []claimInfoBody `json:"infos"`
}

func (s *Server) claimInfos(c *call) error {
	req, err := decodeBody[claimInfosRequest](c)
	if err != nil {
		return err
	}
	out := claimInfosBody{Infos: []claimInfoBody{}}
	for _, r := range req.Requests {
		info, err := r.info()
		if err != nil {
			return err
		}
		out.Infos = append(out.Infos, info)
	}
	return c.JSON(http.StatusOK, out)
}

type claimStatusBody struct {
	EndDeviceIDs v3.EndDeviceIDs  `json:"end_device_ids"`
	HomeNetID    string           `json:"home_net_id"`
	ClaimedFrom  *v3.EndDeviceIDs `json:"claimed_from,omitempty"` // additive
}

func (s *Server) claimStatus(c *call) error {
	dev, err := s.cfg.Registry.Device(c.ctx(), c.device())
	if err != nil {
		return err
	}
	netID := cmp.Or(dev.NetID, hex.EncodeToString(s.cfg.NetID[:]))
	return c.JSON(http.StatusOK, claimStatusBody{dev.IDs, strings.ToUpper(netID), dev.ClaimedFrom})
}

func (s *Server) unclaimDevice(c *call) error {
	ctx, cancel := c.steadfast()
	defer cancel()
	if err := s.unclaim(ctx, c.device()); err != nil {
		return err
	}
	return c.empty()
}

// unclaim gives a device back to the application that it was claimed from.
func (s *Server) unclaim(ctx context.Context, id messages.DeviceID) error {
	dev, err := s.cfg.Registry.Device(ctx, id)
	switch {
	case err != nil:
		return err
	case dev.ClaimedFrom == nil:
		return messages.Errorf(messages.CodePrecondition, "not_claimed", "end device %q was not claimed: delete it if it is to go", id.DeviceID)
	}
	origin := dev.ClaimedFrom
	_, err = s.move(ctx, id, messages.DeviceID{ApplicationID: origin.ApplicationIDs.ApplicationID, DeviceID: origin.DeviceID}, func(*v3.EndDevice) error { return nil })
	return err
}

type unclaimFailure struct {
	EndDeviceIDs v3.EndDeviceIDs  `json:"end_device_ids"`
	ErrorDetails *v3.ErrorDetails `json:"error_details"`
}

type unclaimBody struct {
	ApplicationIDs v3.ApplicationIDs `json:"application_ids"`
	Failed         []unclaimFailure  `json:"failed,omitempty"`
}

// unclaimDevices gives several devices back, each by itself.
func (s *Server) unclaimDevices(c *call) error {
	ids, err := c.batchIDs()
	if err != nil {
		return err
	}
	out := unclaimBody{ApplicationIDs: v3.ApplicationIDs{ApplicationID: c.app()}}
	for _, id := range ids {
		ctx, cancel := c.steadfast()
		if err := s.unclaim(ctx, id); err != nil {
			out.Failed = append(out.Failed, unclaimFailure{v3.EndDeviceIDs{DeviceID: id.DeviceID, ApplicationIDs: out.ApplicationIDs}, v3.DetailsOf(namespace, err)})
		}
		cancel()
	}
	return c.JSON(http.StatusOK, out)
}

func (s *Server) allowClaiming(c *call) error { return s.setClaiming(c, true) }

func (s *Server) forbidClaiming(c *call) error { return s.setClaiming(c, false) }

// setClaiming does not need the API key that The Things Stack's clients send along: the caller's own rights count.
func (s *Server) setClaiming(c *call, allowed bool) error {
	if err := s.cfg.Registry.AllowClaiming(c.ctx(), c.app(), allowed); err != nil {
		return err
	}
	return c.empty()
}
