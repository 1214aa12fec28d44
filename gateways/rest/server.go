package rest

import (
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
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

// asConfiguration says which integrations there are.
func (s *Server) asConfiguration(c *call) error {
	providers := map[string]string{"mqtt": "ENABLED", "nats": "ENABLED"}
	return c.JSON(http.StatusOK, map[string]any{"configuration": map[string]any{"pubsub": map[string]any{"providers": providers}}})
}

type frequencyPlan struct {
	ID            string `json:"id"`
	BaseID        string `json:"base_id,omitempty"`
	Name          string `json:"name"`
	BaseFrequency uint32 `json:"base_frequency"` // MHz
	BandID        string `json:"band_id"`
}

var frequencyPlans = func() []frequencyPlan {
	plans := []frequencyPlan{
		{ID: "EU_863_870", Name: "Europe 863-870 MHz (SF12 for RX2)", BaseFrequency: 868, BandID: "EU_863_870"},
		{ID: "EU_863_870_TTN", BaseID: "EU_863_870", Name: "Europe 863-870 MHz (SF9 for RX2)", BaseFrequency: 868, BandID: "EU_863_870"},
		{ID: "US_902_928", Name: "United States 902-928 MHz, all channels", BaseFrequency: 915, BandID: "US_902_928"},
	}
	for fsb := range 8 {
		plans = append(plans, frequencyPlan{ID: fmt.Sprintf("US_902_928_FSB_%d", fsb+1), BaseID: "US_902_928",
			Name: fmt.Sprintf("United States 902-928 MHz, FSB %d", fsb+1), BaseFrequency: 915, BandID: "US_902_928"})
	}
	return plans
}()

func (s *Server) listFrequencyPlans(c *call) error {
	out := []frequencyPlan{}
	base, band := c.QueryParam("base_frequency"), c.QueryParam("band_id")
	for _, p := range frequencyPlans {
		if (base == "" || base == "0" || base == strconv.Itoa(int(p.BaseFrequency))) && (band == "" || band == p.BandID) {
			out = append(out, p)
		}
	}
	return c.JSON(http.StatusOK, map[string]any{"frequency_plans": out})
}
