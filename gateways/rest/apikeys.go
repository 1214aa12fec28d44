package rest

import (
	"net/http"
	"slices"
	"time"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

var apiKeyOrders = orders[v3.APIKey]{
	"api_key_id": func(k *v3.APIKey) string { return k.ID },
	"name":       func(k *v3.APIKey) string { return k.Name },
	"created_at": func(k *v3.APIKey) string { return timeText(k.CreatedAt) },
	"expires_at": func(k *v3.APIKey) string { return timeText(k.ExpiresAt) },
}

// listAPIKeys and the calls below serve the keys of an application, and under /users the admin keys, where c.app() is "".
func (s *Server) listAPIKeys(c *call) error {
	keys, err := s.cfg.Registry.APIKeys(c.ctx(), c.app())
	if err != nil {
		return err
	}
	return listed(c, "api_keys", keys, apiKeyOrders, func(k *v3.APIKey) (any, error) { return k, nil })
}

func (s *Server) getAPIKey(c *call) error {
	key, err := s.cfg.Registry.APIKey(c.ctx(), c.app(), c.Param("key_id"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, key)
}

// apiKeyRequest is the body of a creation. It has no ids: those of the path count.
type apiKeyRequest struct {
	ApplicationIDs *v3.ApplicationIDs `json:"application_ids"`
	Name           string             `json:"name"`
	Rights         []messages.Right   `json:"rights"`
	ExpiresAt      *time.Time         `json:"expires_at"`
}

// createAPIKey gives the key itself, this once.
func (s *Server) createAPIKey(c *call) error {
	req, err := decodeBody[apiKeyRequest](c)
	if err != nil {
		return err
	}
	if err := c.mayGive(req.Rights); err != nil {
		return err
	}
	key, err := s.cfg.Registry.CreateAPIKey(c.ctx(), c.app(), v3.APIKey{Name: req.Name, Rights: req.Rights, ExpiresAt: req.ExpiresAt})
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, key)
}

// mayGive refuses rights that the caller has not: they are not the caller's to give.
func (c *call) mayGive(rights []messages.Right) error {
	if c.access.Admin {
		return nil
	}
	return c.needs(rights...)
}

func (s *Server) updateAPIKey(c *call) error {
	req, err := decodeRequest[v3.APIKey](c, "api_key")
	if err != nil {
		return err
	}
	change := req.change()
	key, err := s.cfg.Registry.UpdateAPIKey(c.ctx(), c.app(), c.Param("key_id"), func(k *v3.APIKey) error {
		before := slices.Clone(k.Rights)
		if err := change(k); err != nil {
			return err
		}
		changed := slices.DeleteFunc(slices.Clone(k.Rights), func(r messages.Right) bool { return slices.Contains(before, r) })
		for _, r := range before {
			if !slices.Contains(k.Rights, r) {
				changed = append(changed, r)
			}
		}
		return c.mayGive(changed)
	})
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, key)
}

func (s *Server) deleteAPIKey(c *call) error {
	if err := s.cfg.Registry.DeleteAPIKey(c.ctx(), c.app(), c.Param("key_id")); err != nil {
		return err
	}
	return c.empty()
}

type entityIDs struct {
	ApplicationIDs *v3.ApplicationIDs `json:"application_ids,omitempty"`
	UserIDs        *userIDs           `json:"user_ids,omitempty"`
}

type keyInfo struct {
	APIKey    v3.APIKey `json:"api_key"`
	EntityIDs entityIDs `json:"entity_ids"`
}

type authInfoBody struct {
	APIKey          keyInfo     `json:"api_key"`
	UniversalRights *rightsBody `json:"universal_rights,omitempty"`
	IsAdmin         bool        `json:"is_admin,omitempty"`
}

// authInfo tells a key about itself.
func (s *Server) authInfo(c *call) error {
	app := c.access.ApplicationID
	key, err := s.cfg.Registry.APIKey(c.ctx(), app, c.access.KeyID)
	if err != nil {
		return err
	}
	out := authInfoBody{APIKey: keyInfo{APIKey: key}, IsAdmin: c.access.Admin}
	if c.access.Admin {
		out.APIKey.EntityIDs.UserIDs = &userIDs{UserID: adminUser}
		out.UniversalRights = &rightsBody{append(slices.Clone(applicationRights), messages.RightGatewayAll)}
	} else {
		out.APIKey.EntityIDs.ApplicationIDs = &v3.ApplicationIDs{ApplicationID: app}
	}
	return c.JSON(http.StatusOK, out)
}
