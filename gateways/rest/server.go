package rest

import (
	"log/slog"
	"net/http"
	"strings"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

type statusBody struct {
	Status  string `json:"status"`
	Reason  string `json:"reason,omitempty"`
	Version string `json:"version,omitempty"`
}

// health says that the process answers; ready that it can take work.
func (s *Server) health(c *call) error {
	return c.JSON(http.StatusOK, statusBody{Status: "ok", Version: s.cfg.Version})
}

func (s *Server) ready(c *call) error {
	if err := s.cfg.Ready(); err != nil {
		s.log.LogAttrs(c.ctx(), slog.LevelWarn, "not ready", slog.Any("err", err))
		return c.JSON(http.StatusServiceUnavailable, statusBody{Status: "unavailable", Reason: v3.DetailsOf(namespace, err).MessageFormat})
	}
	return c.JSON(http.StatusOK, statusBody{Status: "ok"})
}

func (s *Server) cluster(c *call) error {
	return c.JSON(http.StatusOK, s.cfg.Cluster(c.ctx()))
}

func (s *Server) prometheus(c *call) error {
	s.cfg.Metrics.ServeHTTP(c.Response(), c.Request())
	return nil
}

type hintBody struct {
	Name    string   `json:"name"`
	Version string   `json:"version,omitempty"`
	API     string   `json:"api"`
	See     []string `json:"see"`
}

const hintPage = `<!doctype html><html lang="en"><meta charset="utf-8"><title>Lorikeet</title>
<h1>Lorikeet</h1><p>A LoRaWAN server. Its API is that of The Things Stack v3, under <code>/api/v3</code>; send
<code>Authorization: Bearer NNSXS.….…</code>.</p><ul><li><a href="/healthz">/healthz</a><li><a href="/readyz">/readyz</a><li><a href="/metrics">/metrics</a></ul></html>
`

func (s *Server) hint(c *call) error {
	if strings.Contains(c.Request().Header.Get("Accept"), "text/html") {
		c.Response().Header().Set("Content-Security-Policy", "default-src 'none'")
		return c.HTML(http.StatusOK, hintPage)
	}
	return c.JSON(http.StatusOK, hintBody{
		Name: "Lorikeet", Version: s.cfg.Version, API: s.cfg.PublicURL + prefix, See: []string{prefix + "/applications", "/healthz", "/readyz", "/metrics"},
	})
}

type connectionInfo struct {
	PublicAddress    string `json:"public_address,omitempty"`
	PublicTLSAddress string `json:"public_tls_address,omitempty"`
	Username         string `json:"username"`
}

func (s *Server) mqttConnectionInfo(c *call) error {
	if !s.cfg.Registry.ApplicationExists(c.app()) {
		return messages.NotFound("application_not_found", "application %q not found", c.app())
	}
	return c.JSON(http.StatusOK, connectionInfo{PublicAddress: s.cfg.MQTTAddress, PublicTLSAddress: s.cfg.MQTTTLSAddress, Username: c.app()})
}
