package rest

import (
	"crypto/rand"
	"net/http"

	"lorikeet/messages"
)

// adminUser is the one user that there is: who holds an admin key.
const adminUser = "admin"

func accountRoutes() []route {
	const app = "/applications/:application_id"
	collaborators := application(messages.RightApplicationSettingsCollab)
	return []route{
		{http.MethodPost, app + "/restore", application(messages.RightApplicationDelete), (*Server).restoreApplication},
		{http.MethodDelete, app + "/purge", application(messages.RightApplicationDelete), (*Server).deleteApplication},
		{http.MethodPost, app + "/dev-eui", writeDevices, (*Server).issueDevEUI},
		{http.MethodGet, app + "/collaborators", collaborators, (*Server).listCollaborators},
		{http.MethodGet, app + "/collaborator/user/:user_id", collaborators, (*Server).getCollaborator},
		{http.MethodGet, "/users/:user_id", admin("user"), (*Server).getUser},
	}
}

// restoreApplication refuses: what is deleted is gone with its sessions and keys, so that nobody can read it any more.
func (s *Server) restoreApplication(c *call) error {
	if s.cfg.Registry.ApplicationExists(c.app()) {
		return messages.Errorf(messages.CodePrecondition, "application_not_deleted", "application %q is not deleted", c.app())
	}
	return messages.NotFound("application_not_found",
		"application %q not found: a deleted application can't be restored, since nothing of it is kept; create it again and import its devices", c.app())
}

type devEUIBody struct {
	DevEUI messages.EUI64 `json:"dev_eui"`
}

// issueDevEUI gives a DevEUI that no other device has got from here.
func (s *Server) issueDevEUI(c *call) error {
	if !s.cfg.Registry.ApplicationExists(c.app()) {
		return messages.NotFound("application_not_found", "application %q not found", c.app())
	}
	eui, err := s.cfg.IssueDevEUI(c.ctx())
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, devEUIBody{eui})
}

// localEUI is a random EUI of the locally administered ones, which collide with no manufacturer's. [IEEE 802c: bit 1 of the first octet]
func localEUI() (eui messages.EUI64) {
	_, _ = rand.Read(eui[:]) // never fails since Go 1.24
	eui[0] = eui[0]&^3 | 2
	return eui
}

type userIDs struct {
	UserID string `json:"user_id"`
}

// accountIDs names who may work on something. There are users only.
type accountIDs struct {
	UserIDs userIDs `json:"user_ids"`
}

type collaborator struct {
	IDs    accountIDs       `json:"ids"`
	Rights []messages.Right `json:"rights"`
}

// theCollaborator of every application is the admin.
func theCollaborator() collaborator {
	return collaborator{IDs: accountIDs{userIDs{adminUser}}, Rights: []messages.Right{messages.RightApplicationAll}}
}

func (s *Server) listCollaborators(c *call) error {
	if !s.cfg.Registry.ApplicationExists(c.app()) {
		return messages.NotFound("application_not_found", "application %q not found", c.app())
	}
	return listed(c, "collaborators", []collaborator{theCollaborator()}, orders[collaborator]{}, func(v *collaborator) (any, error) { return v, nil })
}

func (s *Server) getCollaborator(c *call) error {
	switch {
	case !s.cfg.Registry.ApplicationExists(c.app()):
		return messages.NotFound("application_not_found", "application %q not found", c.app())
	case c.Param("user_id") != adminUser:
		return userNotFound(c.Param("user_id"))
	}
	return c.JSON(http.StatusOK, theCollaborator())
}

func userNotFound(id string) error {
	return messages.NotFound("user_not_found", "user %q not found: there is only %q, who holds the admin keys; give people API keys of an application", shorten(id), adminUser)
}

// userBody is a user as The Things Stack shows it.
type userBody struct {
	IDs   userIDs `json:"ids"`
	Name  string  `json:"name"`
	State string  `json:"state"`
	Admin bool    `json:"admin"`
}

func (s *Server) getUser(c *call) error {
	if c.Param("user_id") != adminUser {
		return userNotFound(c.Param("user_id"))
	}
	return c.JSON(http.StatusOK, userBody{IDs: userIDs{adminUser}, Name: adminUser, State: "STATE_APPROVED", Admin: true})
}
