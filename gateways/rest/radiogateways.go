package rest

import (
	"net/http"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

var gatewayOrders = orders[v3.Gateway]{
	"gateway_id":  func(g *v3.Gateway) string { return g.IDs.GatewayID },
	"gateway_eui": func(g *v3.Gateway) string { return euiText(g.IDs.EUI) },
	"name":        func(g *v3.Gateway) string { return g.Name },
	"created_at":  func(g *v3.Gateway) string { return timeText(g.CreatedAt) },
	"updated_at":  func(g *v3.Gateway) string { return timeText(g.UpdatedAt) },
}

func (s *Server) listGateways(c *call) error {
	gateways, err := s.cfg.Registry.Gateways(c.ctx())
	if err != nil {
		return err
	}
	shown, err := shownBy[v3.Gateway](c, nil)
	if err != nil {
		return err
	}
	return listed(c, "gateways", gateways, gatewayOrders, shown)
}

func (s *Server) createGateway(c *call) error {
	req, err := decodeRequest[v3.Gateway](c, "gateway")
	if err != nil {
		return err
	}
	req.value.AutoRegistered = false // a person did
	gateway, err := s.cfg.Registry.CreateGateway(c.ctx(), req.value)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, gateway)
}

func (s *Server) getGateway(c *call) error {
	gateway, err := s.cfg.Registry.Gateway(c.ctx(), c.Param("gateway_id"))
	if err != nil {
		return err
	}
	return show(c, gateway, nil)
}

func (s *Server) updateGateway(c *call) error {
	req, err := decodeRequest[v3.Gateway](c, "gateway")
	if err != nil {
		return err
	}
	change, id := req.change(), c.Param("gateway_id")
	gateway, err := s.cfg.Registry.UpdateGateway(c.ctx(), id, func(g *v3.Gateway) error {
		err := change(g)
		g.IDs.GatewayID = id // the path wins
		return err
	})
	if err != nil {
		return err
	}
	return written(c, gateway, req.paths, nil)
}

func (s *Server) deleteGateway(c *call) error {
	if err := s.cfg.Registry.DeleteGateway(c.ctx(), c.Param("gateway_id")); err != nil {
		return err
	}
	return c.empty()
}

func (s *Server) listGatewayRights(c *call) error {
	if _, err := s.cfg.Registry.Gateway(c.ctx(), c.Param("gateway_id")); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, rightsBody{[]messages.Right{messages.RightGatewayAll}})
}

func (s *Server) gatewayStats(c *call) error {
	gateway, err := s.cfg.Registry.Gateway(c.ctx(), c.Param("gateway_id"))
	if err != nil {
		return err
	}
	if gateway.IDs.EUI != nil {
		if stats, ok := s.cfg.GatewayStats(*gateway.IDs.EUI); ok {
			return c.JSON(http.StatusOK, stats)
		}
	}
	return messages.NotFound("not_connected", "radio gateway %q is not connected: check its EUI, its server address and its port", gateway.IDs.GatewayID)
}
