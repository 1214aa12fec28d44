package rest

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

func networkRoutes() []route {
	return []route{
		{http.MethodGet, "/ns/dev_addr", anyKey, (*Server).issueDevAddr},
		{http.MethodGet, "/ns/net_id", anyKey, (*Server).showNetID},
		{http.MethodGet, "/ns/dev_addr_prefixes", anyKey, (*Server).listDevAddrPrefixes},
		{http.MethodGet, "/ns/default_mac_settings/:frequency_plan_id/:lorawan_phy_version", anyKey, (*Server).defaultMACSettings},
		{http.MethodGet, "/js/join_eui_prefixes", anyKey, (*Server).listJoinEUIPrefixes},
		{http.MethodGet, "/js/default_join_eui", anyKey, (*Server).defaultJoinEUI},
		{http.MethodGet, "/as/configuration", anyKey, (*Server).asConfiguration},
		{http.MethodGet, "/configuration/frequency-plans", anyKey, (*Server).listFrequencyPlans},
		{http.MethodGet, "/configuration/phy-versions", anyKey, (*Server).listPHYVersions},
		{http.MethodGet, "/configuration/bands", anyKey, (*Server).listBands},
		{http.MethodGet, "/configuration/bands/:band_id", anyKey, (*Server).listBands},
		{http.MethodGet, "/configuration/bands/:band_id/:phy_version", anyKey, (*Server).listBands},
	}
}

type devAddrBody struct {
	DevAddr messages.DevAddr `json:"dev_addr"`
}

// issueDevAddr gives a random address of the network, for an ABP device.
func (s *Server) issueDevAddr(c *call) error {
	var a messages.DevAddr
	_, _ = rand.Read(a[:]) // never fails since Go 1.24
	a[0] = s.firstDevAddr()[0] | a[0]&1
	return c.JSON(http.StatusOK, devAddrBody{a})
}

// firstDevAddr of the network's block.
func (s *Server) firstDevAddr() messages.DevAddr { return messages.DevAddr{s.cfg.NetID[2] & 0x3f << 1} }

type netIDBody struct {
	NetID string `json:"net_id"`
}

func (s *Server) showNetID(c *call) error {
	return c.JSON(http.StatusOK, netIDBody{strings.ToUpper(hex.EncodeToString(s.cfg.NetID[:]))})
}

type devAddrPrefixesBody struct {
	Prefixes []string `json:"dev_addr_prefixes"`
}

// devAddrPrefixBits of a NetID of type 0: a zero and six bits of the NetID. [LoRaWAN Backend Interfaces 1.0 §13]
const devAddrPrefixBits = 7

func (s *Server) listDevAddrPrefixes(c *call) error {
	return c.JSON(http.StatusOK, devAddrPrefixesBody{[]string{s.firstDevAddr().String() + "/" + strconv.Itoa(devAddrPrefixBits)}})
}

type joinEUIPrefix struct {
	JoinEUI messages.EUI64 `json:"join_eui"`
	Length  uint8          `json:"length,omitempty"`
}

type joinEUIPrefixesBody struct {
	Prefixes []joinEUIPrefix `json:"prefixes"`
}

// listJoinEUIPrefixes: the server takes joins of every JoinEUI.
func (s *Server) listJoinEUIPrefixes(c *call) error {
	return c.JSON(http.StatusOK, joinEUIPrefixesBody{[]joinEUIPrefix{{}}})
}

type joinEUIBody struct {
	JoinEUI messages.EUI64 `json:"join_eui"`
}

// defaultJoinEUI is all zeros, which is what devices without a join server of their own use.
func (s *Server) defaultJoinEUI(c *call) error { return c.JSON(http.StatusOK, joinEUIBody{}) }

type asConfigurationBody struct {
	Configuration struct {
		PubSub struct {
			Providers map[string]string `json:"providers"`
		} `json:"pubsub"`
	} `json:"configuration"`
}

// asConfiguration says which integrations there are.
func (s *Server) asConfiguration(c *call) error {
	var out asConfigurationBody
	out.Configuration.PubSub.Providers = map[string]string{"mqtt": "ENABLED", "nats": "ENABLED"}
	return c.JSON(http.StatusOK, out)
}

type frequencyPlan struct {
	ID            string `json:"id"`
	BaseID        string `json:"base_id,omitempty"`
	Name          string `json:"name"`
	BaseFrequency uint32 `json:"base_frequency"` // MHz
	BandID        string `json:"band_id"`
}

type frequencyPlansBody struct {
	FrequencyPlans []frequencyPlan `json:"frequency_plans"`
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
	out := frequencyPlansBody{FrequencyPlans: []frequencyPlan{}}
	base, band := c.QueryParam("base_frequency"), c.QueryParam("band_id")
	for _, p := range frequencyPlans {
		if (base == "" || base == "0" || base == strconv.Itoa(int(p.BaseFrequency))) && (band == "" || band == p.BandID) {
			out.FrequencyPlans = append(out.FrequencyPlans, p)
		}
	}
	return c.JSON(http.StatusOK, out)
}

// phyVersions are the versions of the regional parameters, in the order of their age.
var phyVersions = []string{
	"PHY_V1_0", "PHY_V1_0_1", "PHY_V1_0_2_REV_A", "PHY_V1_0_2_REV_B", "PHY_V1_0_3_REV_A",
	"RP002_V1_0_0", "RP002_V1_0_1", "RP002_V1_0_2", "RP002_V1_0_3", "RP002_V1_0_4",
}

type versionInfo struct {
	BandID      string   `json:"band_id"`
	PHYVersions []string `json:"phy_versions"`
}

type phyVersionsBody struct {
	VersionInfo []versionInfo `json:"version_info"`
}

func (s *Server) listPHYVersions(c *call) error {
	out := phyVersionsBody{VersionInfo: []versionInfo{}}
	for _, id := range bandIDs {
		if want := c.QueryParam("band_id"); want == "" || want == id {
			out.VersionInfo = append(out.VersionInfo, versionInfo{id, phyVersions})
		}
	}
	return c.JSON(http.StatusOK, out)
}

// macSettingsBody are the settings that a device of a plan has if nothing else is set, in the form of The Things Stack.
type macSettingsBody struct {
	RX1Delay          v3.Uint32 `json:"rx1_delay"` // seconds
	RX1DataRateOffset v3.Uint32 `json:"rx1_data_rate_offset"`
	RX2DataRateIndex  v3.Uint32 `json:"rx2_data_rate_index"`
	RX2Frequency      v3.Uint64 `json:"rx2_frequency"`     // Hz
	DesiredRX1Delay   v3.Uint32 `json:"desired_rx1_delay"` // seconds; given to devices that join
	Supports32BitFCnt bool      `json:"supports_32_bit_f_cnt"`
}

// joinRX1Delay is what devices that join are given, in seconds.
const joinRX1Delay = 5

func (s *Server) defaultMACSettings(c *call) error {
	id, version := c.Param("frequency_plan_id"), c.Param("lorawan_phy_version")
	plan := slices.IndexFunc(frequencyPlans, func(p frequencyPlan) bool { return p.ID == id })
	if plan < 0 {
		return messages.NotFound("frequency_plan_not_found", "frequency plan %q is not supported: GET %s/configuration/frequency-plans lists those that are", shorten(id), prefix)
	}
	if !slices.Contains(phyVersions, version) {
		return unknownPHYVersion(version)
	}
	defaults, err := defaultsOf(frequencyPlans[plan].BandID)
	if err != nil {
		return err
	}
	out := macSettingsBody{
		RX1Delay: v3.Uint32(defaults.ReceiveDelay1.Seconds()), RX2DataRateIndex: v3.Uint32(defaults.RX2DataRate),
		RX2Frequency: v3.Uint64(defaults.RX2Frequency), DesiredRX1Delay: joinRX1Delay, Supports32BitFCnt: true,
	}
	if id == "EU_863_870_TTN" {
		out.RX2DataRateIndex = 3
	}
	return c.JSON(http.StatusOK, out)
}

func unknownPHYVersion(version string) error {
	return messages.NotFound("phy_version_not_found", "LoRaWAN PHY version %q is unknown: use one of %s", shorten(version), strings.Join(phyVersions, ", "))
}
