package v3

import "strings"

// FrequencyPlan maps a frequency plan id of The Things Stack to the name of its band and its sub-band:
// 1 to 8 for the FSB plans of US915, 0 for all channels. ok is false for a plan that is not supported.
func FrequencyPlan(id string) (band string, subBand int, ok bool) {
	switch id {
	case "EU_863_870", "EU_863_870_TTN":
		return "EU868", 0, true
	case "US_902_928":
		return "US915", 0, true
	}
	fsb, ok := strings.CutPrefix(id, "US_902_928_FSB_")
	if !ok || len(fsb) != 1 || fsb[0] < '1' || fsb[0] > '8' {
		return "", 0, false
	}
	return "US915", int(fsb[0] - '0'), true
}
