package rest

import (
	"context"
	"net/http"
	"reflect"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

type queueWrite func(ctx context.Context, id messages.DeviceID, items []messages.Downlink) error

func (s *Server) pushDownlinks(c *call) error {
	if err := s.changeQueue(c, s.cfg.Devices.PushDownlinks); err != nil {
		return err
	}
	return c.empty()
}

func (s *Server) replaceDownlinks(c *call) error {
	if err := s.changeQueue(c, s.cfg.Devices.ReplaceDownlinks); err != nil {
		return err
	}
	return c.empty()
}

// changeQueue reads {"downlinks":[…]}. A device that the body names is not looked at: the path wins.
func (s *Server) changeQueue(c *call, do queueWrite) error {
	b, err := c.body()
	if err != nil {
		return err
	}
	items, err := c.server.cfg.Input.DecodeDownlinks(b, nil)
	if err != nil {
		return err
	}
	c.warn(unknownMembers("", b, reflect.TypeFor[downlinksRequest]()))
	return do(c.ctx(), c.device(), items)
}

// downlinksRequest is what DecodeDownlinks reads.
type downlinksRequest struct {
	EndDeviceIDs *v3.EndDeviceIDs         `json:"end_device_ids"`
	Downlinks    []v3.ApplicationDownlink `json:"downlinks"`
}

type downlinksBody struct {
	Downlinks []v3.ApplicationDownlink `json:"downlinks,omitempty"`
}

func (s *Server) listDownlinks(c *call) error {
	items, err := s.cfg.Devices.ListDownlinks(c.ctx(), c.device())
	if err != nil {
		return err
	}
	var out downlinksBody
	for _, item := range items {
		out.Downlinks = append(out.Downlinks, v3.FromDownlink(item))
	}
	return c.JSON(http.StatusOK, out)
}

func (s *Server) simulateUplink(c *call) error {
	up, err := decodeBody[v3.ApplicationUp](c)
	if err != nil {
		return err
	}
	if err := s.cfg.Devices.SimulateUplink(c.ctx(), c.device(), up); err != nil {
		return err
	}
	return c.empty()
}
