package rest

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"slices"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

type queueWrite func(ctx context.Context, id messages.DeviceID, items []messages.Downlink) error

// DownlinkQueue is the downlink queue of a device.
type DownlinkQueue interface {
	// QueueDownlinks appends items, or replaces the queue by them, and gives them as they were accepted.
	QueueDownlinks(ctx context.Context, id messages.DeviceID, items []messages.Downlink, replace bool) ([]messages.Downlink, error)
	ListDownlinks(ctx context.Context, id messages.DeviceID) ([]messages.Downlink, error)
	// CancelDownlinks takes items out by their ids. What stays, or is not there, is refused with a reason.
	CancelDownlinks(ctx context.Context, id messages.DeviceID, ids []string) (refused map[string]*messages.Error, err error)
}

func (s *Server) pushDownlinks(c *call) error { return s.queueDownlinks(c, false) }

func (s *Server) replaceDownlinks(c *call) error { return s.queueDownlinks(c, true) }

// queueDownlinks answers with the ids of the items. The Things Stack answers {}: this is additive.
func (s *Server) queueDownlinks(c *call, replace bool) error {
	var accepted []messages.Downlink
	err := s.changeQueue(c, func(ctx context.Context, id messages.DeviceID, items []messages.Downlink) (err error) {
		accepted, err = s.cfg.Devices.QueueDownlinks(ctx, id, items, replace)
		return err
	})
	if err != nil {
		return err
	}
	var out acceptedBody
	for i := range accepted {
		out.Downlinks = append(out.Downlinks, acceptedDownlink{ID: accepted[i].ID})
	}
	return c.JSON(http.StatusOK, out)
}

// changeQueue reads {"downlinks":[…]}. A device that the body names is not looked at: the path wins.
func (s *Server) changeQueue(c *call, do queueWrite) error {
	b, err := c.body()
	if err != nil {
		return err
	}
	return s.changeQueueBy(c, b, do)
}

// changeQueueBy takes the body as JSON.
func (s *Server) changeQueueBy(c *call, b []byte, do queueWrite) error {
	items, err := s.cfg.Input.DecodeDownlinks(b, nil)
	if err != nil {
		return err
	}
	c.warn(unknownMembers("", b, reflect.TypeFor[downlinksRequest]()))
	c.warnClassBC(items)
	return do(c.ctx(), c.device(), items)
}

type acceptedBody struct {
	Downlinks []acceptedDownlink `json:"downlinks,omitempty"`
}

type acceptedDownlink struct {
	ID string `json:"id"`
}

// warnClassBC tells the client what it would wait for in vain.
func (c *call) warnClassBC(items []messages.Downlink) {
	shown := 0
	for i := range items {
		if len(items[i].ClassBC) > 0 && shown < maxWarnings {
			c.Response().Header().Add("X-Warning", fmt.Sprintf("downlinks[%d].class_b_c: class B and C sending is not available yet; the item stays in the queue until it expires or is cancelled", i))
			shown++
		}
	}
}

// maxCancelled is how many ids one request may name.
const maxCancelled = 1000

type cancelRequest struct {
	EndDeviceIDs *v3.EndDeviceIDs `json:"end_device_ids"`
	IDs          []string         `json:"ids"`
}

type cancelBody struct {
	Cancelled []string          `json:"cancelled,omitempty"`
	Refused   []refusedDownlink `json:"refused,omitempty"`
}

type refusedDownlink struct {
	ID    string           `json:"id"`
	Error *v3.ErrorDetails `json:"error"`
}

// cancelDownlinks takes several items out of the queue; each has a result of its own.
func (s *Server) cancelDownlinks(c *call) error {
	req, err := decodeBody[cancelRequest](c)
	switch {
	case err != nil:
		return err
	case len(req.IDs) == 0:
		return messages.Invalid("no_ids", `the body names no downlink: send {"ids":["…"]} with ids of GET …/down`)
	case len(req.IDs) > maxCancelled:
		return messages.Invalid("too_many_ids", "%d ids in one request: send at most %d; to clear the queue, replace it with {\"downlinks\":[]}", len(req.IDs), maxCancelled)
	}
	refused, err := s.cfg.Devices.CancelDownlinks(c.ctx(), c.device(), req.IDs)
	if err != nil {
		return err
	}
	var out cancelBody
	for i, id := range req.IDs {
		switch reason := refused[id]; {
		case slices.Contains(req.IDs[:i], id):
		case reason != nil:
			out.Refused = append(out.Refused, refusedDownlink{id, v3.DetailsOf(namespace, reason)})
		default:
			out.Cancelled = append(out.Cancelled, id)
		}
	}
	return c.JSON(http.StatusOK, out)
}

func (s *Server) cancelDownlink(c *call) error {
	id := c.Param("downlink_id")
	refused, err := s.cfg.Devices.CancelDownlinks(c.ctx(), c.device(), []string{id})
	if err != nil {
		return err
	}
	if reason := refused[id]; reason != nil {
		return reason
	}
	return c.empty()
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
