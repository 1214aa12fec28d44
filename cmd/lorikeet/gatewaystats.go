package main

import (
	"time"

	"lorikeet/gateways/radio/semtechudp"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// connectionStats is a connection as REST shows it.
func connectionStats(c semtechudp.Connection) v3.GatewayConnectionStats {
	out := v3.GatewayConnectionStats{
		ConnectedAt: known(c.ConnectedAt), Protocol: "udp", LastUplinkReceivedAt: known(c.LastUplink), UplinkCount: v3.Uint64(c.Uplinks),
		LastDownlinkReceivedAt: known(c.LastDownlink), DownlinkCount: v3.Uint64(c.Downlinks),
	}
	if n := len(c.RoundTrips); n > 0 {
		out.RoundTripTimes = &v3.RoundTripTimes{
			Min: v3.Duration(c.RoundTrips[0]), Max: v3.Duration(c.RoundTrips[n-1]), Median: v3.Duration(c.RoundTrips[n/2]), Count: v3.Uint32(n),
		}
	}
	if st := c.LastStatus; st != nil {
		out.LastStatusReceivedAt, out.LastStatus = known(st.ReceivedAt), statusOf(st)
	}
	return out
}

// statusOf names the counters as The Things Stack does for Semtech UDP.
func statusOf(st *messages.GatewayStatus) *v3.GatewayStatus {
	out := &v3.GatewayStatus{Time: known(st.Time), Versions: st.Versions, Metrics: map[string]float64{
		"rxin": float64(st.RxReceived), "rxok": float64(st.RxOK), "rxfw": float64(st.RxForwarded), "ackr": st.AckRatio,
		"txin": float64(st.TxReceived), "txok": float64(st.TxEmitted),
	}}
	for name, v := range st.Metrics {
		out.Metrics[name] = v
	}
	if l := st.Location; l != nil {
		out.AntennaLocations = []v3.Location{{Latitude: l.Latitude, Longitude: l.Longitude, Altitude: l.Altitude, Accuracy: l.Accuracy, Source: l.Source}}
	}
	return out
}

func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
