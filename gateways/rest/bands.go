package rest

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/brocaar/lorawan"
	"github.com/brocaar/lorawan/band"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// bandIDs are the bands of the supported frequency plans, bandNames what the LoRaWAN library calls them.
var (
	bandIDs   = []string{"EU_863_870", "US_902_928"}
	bandNames = map[string]band.Name{"EU_863_870": band.EU868, "US_902_928": band.US915}
)

// bandDescription is a band as The Things Stack describes it.
type bandDescription struct {
	ID                   string                  `json:"id"`
	UplinkChannels       []bandChannel           `json:"uplink_channels"`
	DownlinkChannels     []bandChannel           `json:"downlink_channels"`
	DataRates            map[string]bandDataRate `json:"data_rates"` // by index
	MaxUplinkChannels    v3.Uint32               `json:"max_uplink_channels"`
	MaxDownlinkChannels  v3.Uint32               `json:"max_downlink_channels"`
	ReceiveDelay1        v3.Duration             `json:"receive_delay_1"`
	ReceiveDelay2        v3.Duration             `json:"receive_delay_2"`
	JoinAcceptDelay1     v3.Duration             `json:"join_accept_delay_1"`
	JoinAcceptDelay2     v3.Duration             `json:"join_accept_delay_2"`
	DefaultMaxEIRP       float32                 `json:"default_max_eirp"` // dBm
	DefaultRX2Parameters rx2Parameters           `json:"default_rx2_parameters"`
	TxParamSetupReq      bool                    `json:"tx_param_setup_req_support,omitempty"`
}

type bandChannel struct {
	Frequency   v3.Uint64 `json:"frequency"` // Hz
	MinDataRate v3.Uint32 `json:"min_data_rate,omitempty"`
	MaxDataRate v3.Uint32 `json:"max_data_rate,omitempty"`
}

type bandDataRate struct {
	Rate v3.DataRate `json:"rate"`
}

type rx2Parameters struct {
	DataRateIndex v3.Uint32 `json:"data_rate_index"`
	Frequency     v3.Uint64 `json:"frequency"` // Hz
}

// versionedBand has the description by PHY version.
type versionedBand struct {
	Band map[string]bandDescription `json:"band"`
}

type bandsBody struct {
	Descriptions map[string]versionedBand `json:"descriptions"`
}

// listBands shows all bands, or the one and the version that the path names.
func (s *Server) listBands(c *call) error {
	id, version := c.Param("band_id"), c.Param("phy_version")
	switch {
	case id != "" && !slices.Contains(bandIDs, id):
		return messages.NotFound("band_not_found", "band %q is not supported: use one of %s", shorten(id), strings.Join(bandIDs, ", "))
	case version != "" && !slices.Contains(phyVersions, version):
		return unknownPHYVersion(version)
	}
	out := bandsBody{map[string]versionedBand{}}
	for _, name := range bandIDs {
		if id != "" && id != name {
			continue
		}
		described, err := describeBand(name)
		if err != nil {
			return err
		}
		versions := map[string]bandDescription{}
		for _, v := range phyVersions {
			if version == "" || version == v {
				versions[v] = described
			}
		}
		out.Descriptions[name] = versionedBand{versions}
	}
	return c.JSON(http.StatusOK, out)
}

func openBand(id string) (band.Band, error) {
	b, err := band.GetConfig(bandNames[id], false, lorawan.DwellTimeNoLimit)
	if err != nil {
		return nil, fmt.Errorf("band %s: %w", id, err)
	}
	return b, nil
}

func defaultsOf(id string) (band.Defaults, error) {
	b, err := openBand(id)
	if err != nil {
		return band.Defaults{}, err
	}
	return b.GetDefaults(), nil
}

// maxDataRates is how many a band can have. [RP002-1.0.4 §2: 4 bits]
const maxDataRates = 16

func describeBand(id string) (bandDescription, error) {
	b, err := openBand(id)
	if err != nil {
		return bandDescription{}, err
	}
	d := b.GetDefaults()
	out := bandDescription{
		ID: id, DataRates: map[string]bandDataRate{}, ReceiveDelay1: v3.Duration(d.ReceiveDelay1), ReceiveDelay2: v3.Duration(d.ReceiveDelay2),
		JoinAcceptDelay1: v3.Duration(d.JoinAcceptDelay1), JoinAcceptDelay2: v3.Duration(d.JoinAcceptDelay2),
		DefaultMaxEIRP: b.GetDefaultMaxUplinkEIRP(), DefaultRX2Parameters: rx2Parameters{v3.Uint32(d.RX2DataRate), v3.Uint64(d.RX2Frequency)},
		TxParamSetupReq: b.ImplementsTXParamSetup("1.0.4"),
	}
	for i := range b.GetUplinkChannelIndices() {
		if ch, err := b.GetUplinkChannel(i); err == nil {
			out.UplinkChannels = append(out.UplinkChannels, channelOf(ch))
		}
	}
	for i := 0; ; i++ {
		ch, err := b.GetDownlinkChannel(i)
		if err != nil {
			break
		}
		out.DownlinkChannels = append(out.DownlinkChannels, channelOf(ch))
	}
	out.MaxUplinkChannels, out.MaxDownlinkChannels = v3.Uint32(max(len(out.UplinkChannels), 16)), v3.Uint32(max(len(out.DownlinkChannels), 16))
	if id == "US_902_928" { // its downlink channels are fixed
		out.MaxDownlinkChannels = v3.Uint32(len(out.DownlinkChannels))
	}
	for i := range maxDataRates {
		if r, err := b.GetDataRate(i); err == nil {
			out.DataRates[strconv.Itoa(i)] = bandDataRate{rateOf(r)}
		}
	}
	return out, nil
}

func channelOf(ch band.Channel) bandChannel {
	return bandChannel{v3.Uint64(ch.Frequency), v3.Uint32(ch.MinDR), v3.Uint32(ch.MaxDR)}
}

func rateOf(r band.DataRate) v3.DataRate {
	switch r.Modulation {
	case band.FSKModulation:
		return v3.DataRate{FSK: &v3.FSKDataRate{BitRate: v3.Uint32(r.BitRate)}}
	case band.LRFHSSModulation:
		return v3.DataRate{LRFHSS: &v3.LRFHSSDataRate{OperatingChannelWidth: v3.Uint32(r.OccupiedChannelWidth), CodingRate: r.CodingRate}}
	}
	return v3.DataRate{LoRa: &v3.LoRaDataRate{Bandwidth: v3.Uint32(r.Bandwidth) * 1000, SpreadingFactor: v3.Uint32(r.SpreadFactor), CodingRate: "4/5"}}
}
