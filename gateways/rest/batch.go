package rest

import (
	"net/http"
	"slices"
	"strings"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

func batchRoutes() []route {
	const batch = "/applications/:application_id/devices/batch"
	out := []route{
		{http.MethodGet, batch, readDevices, (*Server).getDevices},
		{http.MethodDelete, batch, writeDevices, (*Server).deleteDevices},
	}
	for name, v := range views {
		out = append(out, route{http.MethodDelete, name + batch, writeDevices, v.deleteBatch})
	}
	return out
}

// batchIDs reads device_ids of the query: several, or one with commas.
func (c *call) batchIDs() ([]messages.DeviceID, error) {
	var ids []messages.DeviceID
	for _, name := range []string{"device_ids", "deviceIds"} {
		for _, value := range c.QueryParams()[name] {
			for _, id := range strings.Split(value, ",") {
				if err := messages.ValidateID(id); err != nil {
					return nil, messages.Invalid("invalid_id", "device_ids: %w", err)
				}
				ids = append(ids, messages.DeviceID{ApplicationID: c.app(), DeviceID: id})
			}
		}
	}
	switch {
	case len(ids) == 0:
		return nil, messages.Invalid("no_device_ids", "the query has no device_ids: send ?device_ids=dev1&device_ids=dev2")
	case len(ids) > maxLimit:
		return nil, messages.Invalid("invalid_device_ids", "%d device_ids: use at most %d in one request", len(ids), maxLimit)
	case !c.server.cfg.Registry.ApplicationExists(c.app()):
		return nil, messages.NotFound("application_not_found", "application %q not found", c.app())
	}
	return slices.Compact(slices.SortedFunc(slices.Values(ids), func(a, b messages.DeviceID) int { return strings.Compare(a.DeviceID, b.DeviceID) })), nil
}

// getDevices shows those of the named devices that there are.
func (s *Server) getDevices(c *call) error {
	ids, err := c.batchIDs()
	if err != nil {
		return err
	}
	var devices []v3.EndDevice
	for _, id := range ids {
		dev, err := s.cfg.Registry.Device(c.ctx(), id)
		switch {
		case messages.CodeOf(err) == messages.CodeNotFound:
		case err != nil:
			return err
		default:
			devices = append(devices, dev)
		}
	}
	if err := s.addTimes(c, devices); err != nil {
		return err
	}
	shown, err := shownBy(c, hideKeys)
	if err != nil {
		return err
	}
	return answerPage(c, "end_devices", devices, len(devices), shown)
}

// deleteDevices deletes those of the named devices that there are. If one can't be deleted, those after it are still there and the call can be repeated.
func (s *Server) deleteDevices(c *call) error {
	return s.eachOfBatch(c, func(id messages.DeviceID) error {
		ctx, cancel := c.steadfast()
		defer cancel()
		defer s.locks.lock(id)()
		if _, err := s.cfg.Registry.Device(ctx, id); err != nil {
			return err
		}
		return s.remove(ctx, id)
	})
}

// deleteBatch takes the view's part away from those of the named devices that there are.
func (v view) deleteBatch(s *Server, c *call) error {
	return s.eachOfBatch(c, func(id messages.DeviceID) error { return v.clear(s, c, id) })
}

func (s *Server) eachOfBatch(c *call, do func(messages.DeviceID) error) error {
	ids, err := c.batchIDs()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := do(id); err != nil && messages.CodeOf(err) != messages.CodeNotFound {
			return err
		}
	}
	return c.empty()
}
