package rest

import (
	"context"
	"slices"
	"sync"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// stateWorkers bounds how many devices are asked for their state at once, maxByState how many one request may ask: each of them is woken.
const (
	stateWorkers = 16
	maxByState   = 10_000
)

// stateTimes are the fields of the state that a list shows if its mask names them.
var stateTimes = []string{"last_seen_at", "activated_at"}

// listDevices shows what the registry knows, and of the state only times that are asked for by name. Keys are never in a list.
func (s *Server) listDevices(c *call) error {
	shown, err := shownBy(c, hideKeys)
	if err != nil {
		return err
	}
	if order := c.QueryParam("order"); order == "" || order == "device_id" { // the order of the registry: it need not read them all
		skip, limit, err := c.page()
		if err != nil {
			return err
		}
		devices, total, err := s.cfg.Registry.DevicePage(c.ctx(), c.app(), skip, limit)
		if err != nil {
			return err
		}
		if err := s.addTimes(c, devices); err != nil {
			return err
		}
		return answerPage(c, "end_devices", devices, total, shown)
	}
	if isByState(c.QueryParam("order")) {
		_, total, err := s.cfg.Registry.DevicePage(c.ctx(), c.app(), 0, 1)
		if err == nil && total > maxByState {
			err = tooManyByState(total)
		}
		if err != nil {
			return err // before they are all read
		}
	}
	devices, err := s.cfg.Registry.Devices(c.ctx(), c.app())
	if err != nil {
		return err
	}
	return s.listedDevices(c, devices)
}

// isByState says whether each device has to be asked for what a list is ordered by.
func isByState(order string) bool { return order == "last_seen_at" || order == "-last_seen_at" }

func tooManyByState(n int) error {
	return messages.Errorf(messages.CodeExhausted, "too_many_devices",
		"%d devices can't be ordered by last_seen_at, which each has to be asked for: use at most %d, or another order", n, maxByState)
}

// listedDevices answers with a page of devices in the order that the query asks for.
func (s *Server) listedDevices(c *call, devices []v3.EndDevice) error {
	shown, err := shownBy(c, hideKeys)
	if err != nil {
		return err
	}
	order := c.QueryParam("order")
	if isByState(order) {
		if len(devices) > maxByState {
			return tooManyByState(len(devices))
		}
		if err := s.addStates(c.ctx(), devices); err != nil {
			return err
		}
	}
	if err := sortBy(devices, deviceOrders, order); err != nil {
		return err
	}
	skip, limit, err := c.page()
	if err != nil {
		return err
	}
	start := min(skip, len(devices))
	page := devices[start:min(start+limit, len(devices))]
	if err := s.addTimes(c, page); err != nil {
		return err
	}
	return answerPage(c, "end_devices", page, len(devices), shown)
}

// addTimes adds the times of the state that the query's mask names.
func (s *Server) addTimes(c *call, page []v3.EndDevice) error {
	paths, err := c.readPaths()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(stateTimes, func(name string) bool { return slices.Contains(paths, name) }) {
		return nil
	}
	return s.addStates(c.ctx(), page)
}

// addStates adds the times of the state of all devices.
func (s *Server) addStates(ctx context.Context, devices []v3.EndDevice) error {
	var wg sync.WaitGroup
	errs := make([]error, min(stateWorkers, len(devices)))
	for w := range errs {
		wg.Go(func() {
			for i := w; i < len(devices) && errs[w] == nil; i += len(errs) {
				errs[w] = s.addTimesOf(ctx, &devices[i])
			}
		})
	}
	wg.Wait()
	return firstOf(errs)
}

func (s *Server) addTimesOf(ctx context.Context, dev *v3.EndDevice) error {
	state, _, err := s.state(ctx, dev.DeviceID())
	if err != nil {
		return err
	}
	if state.LastSeenAt != nil {
		dev.LastSeenAt = state.LastSeenAt
	}
	if state.ActivatedAt != nil {
		dev.ActivatedAt = state.ActivatedAt
	}
	return nil
}

func firstOf(errs []error) error {
	i := slices.IndexFunc(errs, func(err error) bool { return err != nil })
	if i < 0 {
		return nil
	}
	return errs[i]
}
