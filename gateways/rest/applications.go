package rest

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

var applicationOrders = orders[v3.Application]{
	"application_id": func(a *v3.Application) string { return a.IDs.ApplicationID },
	"name":           func(a *v3.Application) string { return a.Name },
	"description":    func(a *v3.Application) string { return a.Description },
	"created_at":     func(a *v3.Application) string { return timeText(a.CreatedAt) },
	"updated_at":     func(a *v3.Application) string { return timeText(a.UpdatedAt) },
}

// visibleApplications are all for an admin, and for the key of an application that one.
func (s *Server) visibleApplications(c *call) ([]v3.Application, error) {
	switch app := c.access.ApplicationID; {
	case c.access.Admin:
		return s.cfg.Registry.Applications(c.ctx())
	case c.access.Can(app, messages.RightApplicationInfo):
		one, err := s.cfg.Registry.Application(c.ctx(), app)
		return []v3.Application{one}, err
	}
	return nil, nil
}

func (s *Server) listApplications(c *call) error {
	apps, err := s.visibleApplications(c)
	if err != nil {
		return err
	}
	shown, err := shownBy[v3.Application](c, nil)
	if err != nil {
		return err
	}
	return listed(c, "applications", apps, applicationOrders, shown)
}

func (s *Server) createApplication(c *call) error {
	req, err := decodeRequest[v3.Application](c, "application")
	if err != nil {
		return err
	}
	app, err := s.cfg.Registry.CreateApplication(c.ctx(), req.value)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, app)
}

func (s *Server) getApplication(c *call) error {
	app, err := s.cfg.Registry.Application(c.ctx(), c.app())
	if err != nil {
		return err
	}
	return show(c, app, nil)
}

func (s *Server) updateApplication(c *call) error {
	req, err := decodeRequest[v3.Application](c, "application")
	if err != nil {
		return err
	}
	change := req.change()
	app, err := s.cfg.Registry.UpdateApplication(c.ctx(), c.app(), func(a *v3.Application) error {
		err := change(a)
		a.IDs.ApplicationID = c.app() // the path wins
		return err
	})
	if err != nil {
		return err
	}
	return written(c, app, req.paths, nil)
}

// deleteWorkers bounds how many devices of an application are forgotten at once.
const deleteWorkers = 16

// deleteApplication forgets the sessions before the registry forgets the devices: after a crash in between the application is still there and can be
// deleted again, and no session is left for a device that gets the same id later.
func (s *Server) deleteApplication(c *call) error {
	ctx, app := context.WithoutCancel(c.ctx()), c.app()
	lock := s.locks.application(app)
	lock.Lock()
	defer lock.Unlock()
	devices, err := s.cfg.Registry.Devices(ctx, app)
	if err != nil {
		return err
	}
	if err := s.forgetDevices(ctx, devices); err != nil {
		return err
	}
	if err := s.cfg.DeleteApplicationData(ctx, app); err != nil {
		return fmt.Errorf("delete data of application %s: %w", app, err)
	}
	if err := s.cfg.Registry.DeleteApplication(ctx, app); err != nil {
		return err
	}
	// Again: what joined or was published in between.
	if err := s.forgetDevices(ctx, devices); err != nil {
		return err
	}
	if err := s.cfg.DeleteApplicationData(ctx, app); err != nil {
		return fmt.Errorf("delete data of application %s: %w", app, err)
	}
	return c.empty()
}

func (s *Server) forgetDevices(ctx context.Context, devices []v3.EndDevice) error {
	var wg sync.WaitGroup
	errs := make([]error, min(deleteWorkers, len(devices)))
	for w := range errs {
		wg.Go(func() {
			for i := w; i < len(devices) && errs[w] == nil; i += len(errs) {
				errs[w] = s.cfg.Devices.DeleteDevice(ctx, devices[i].DeviceID())
			}
		})
	}
	wg.Wait()
	return firstOf(errs)
}

// applicationRights that RIGHT_APPLICATION_ALL stands for.
var applicationRights = []messages.Right{
	messages.RightApplicationInfo, messages.RightApplicationSettingsBasic, messages.RightApplicationSettingsAPIKeys,
	messages.RightApplicationSettingsCollab, messages.RightApplicationSettingsPackages, messages.RightApplicationDelete,
	messages.RightApplicationDevicesRead, messages.RightApplicationDevicesWrite, messages.RightApplicationDevicesReadKeys,
	messages.RightApplicationDevicesWriteKeys, messages.RightApplicationTrafficRead, messages.RightApplicationTrafficUpWrite,
	messages.RightApplicationTrafficDownWrite, messages.RightApplicationLink, messages.RightApplicationAll,
}

type rightsBody struct {
	Rights []messages.Right `json:"rights,omitempty"`
}

// rightsOn lists each right that the key has, also those that another one implies.
func rightsOn(a messages.Access, app string) []messages.Right {
	var out []messages.Right
	for _, r := range applicationRights {
		if a.Can(app, r) {
			out = append(out, r)
		}
	}
	return out
}

func (s *Server) listRights(c *call) error {
	if !s.cfg.Registry.ApplicationExists(c.app()) {
		return messages.NotFound("application_not_found", "application %q not found", c.app())
	}
	return c.JSON(http.StatusOK, rightsBody{rightsOn(c.access, c.app())})
}

func (s *Server) getLink(c *call) error {
	link, err := s.cfg.Registry.Link(c.ctx(), c.app())
	if err != nil {
		return err
	}
	paths, err := c.readPaths()
	if err != nil {
		return err
	}
	return written(c, link, paths, nil) // a link has no ids that could stand for it: without a mask it is shown whole
}

func (s *Server) setLink(c *call) error {
	req, err := decodeRequest[v3.Link](c, "link")
	if err != nil {
		return err
	}
	link, err := s.cfg.Registry.SetLink(c.ctx(), c.app(), req.change())
	if err != nil {
		return err
	}
	return written(c, link, req.paths, nil)
}

func (s *Server) deleteLink(c *call) error {
	if err := s.cfg.Registry.DeleteLink(c.ctx(), c.app()); err != nil {
		return err
	}
	return c.empty()
}
