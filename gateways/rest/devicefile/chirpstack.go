package devicefile

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"lorikeet/messages"
)

// ChirpStack has no export of its own; tools write what its API gives: a device, and with it keys, activation and device profile, each beside it, in it,
// or with their members among those of the device. Names may be in camelCase or snake_case.
//
// Three things differ: of LoRaWAN 1.0.x its nwk_key is the AppKey (and app_key one of another use), its f_cnt_up is the counter that is expected next,
// and so is n_f_cnt_down.

// chirpStackParts are the members that may hold a part of a device, with the members that are taken of them; nil: all.
var chirpStackParts = map[string][]string{
	"device": nil, "devicekeys": nil, "keys": nil, "deviceactivation": nil, "activation": nil, "devicesession": nil,
	"deviceprofile": profileMembers, "profile": profileMembers,
}

var profileMembers = []string{"macversion", "regparamsrevision", "region", "supportsclassb", "supportsclassc", "abprx1delay"}

// canonical is a name as it is compared.
func canonical(name string) string { return strings.ToLower(strings.ReplaceAll(name, "_", "")) }

func isChirpStack(fields map[string]any) bool {
	names := map[string]any{}
	for name, value := range fields {
		names[canonical(name)] = value
	}
	if device, ok := names["device"].(map[string]any); ok {
		return isChirpStack(device)
	}
	_, things := names["ids"]
	_, eui := names["deveui"].(string)
	return eui && !things
}

func chirpStack(o Options) func(map[string]any) (object, error) {
	return func(fields map[string]any) (object, error) {
		c := chirpStackDevice{}
		c.collect(fields, nil)
		return c.convert(o)
	}
}

// chirpStackDevice holds the members of all parts under their canonical names.
type chirpStackDevice map[string]any

func (c chirpStackDevice) collect(fields map[string]any, only []string) {
	for name, value := range fields {
		name = canonical(name)
		inner, isObject := value.(map[string]any)
		if members, isPart := chirpStackParts[name]; isPart && isObject {
			c.collect(inner, members)
			continue
		}
		if only == nil || slices.Contains(only, name) {
			c[name] = value
		}
	}
}

func (c chirpStackDevice) text(name string) string {
	switch v := c[name].(type) {
	case string:
		return strings.TrimSpace(v)
	case json.Number:
		return v.String()
	}
	return ""
}

// key gives a key that is set: ChirpStack writes zeros for none.
func (c chirpStackDevice) key(name string) string {
	text := c.text(name)
	if strings.Trim(text, "0") == "" {
		return ""
	}
	return text
}

func (c chirpStackDevice) convert(o Options) (object, error) {
	out := object{fields: map[string]any{}}
	eui := c.text("deveui")
	if eui == "" {
		return out, invalid("the device has no devEui")
	}
	f := out.fields
	set(f, []string{"ids", "dev_eui"}, eui)
	out.id = "eui-" + strings.ToLower(eui)
	for name, path := range map[string][]string{"name": {"name"}, "description": {"description"}} {
		if text := c.text(name); text != "" {
			set(f, path, text)
		}
	}
	c.profile(f)
	join := c.text("joineui")
	if nwk := c.key("nwkkey"); nwk != "" || c.key("appkey") != "" {
		c.rootKeys(f, firstOf(f["lorawan_version"], o.LoRaWANVersion), nwk)
		if join == "" {
			join = messages.EUI64{}.String()
		}
		f["supports_join"] = true
	}
	if join != "" {
		set(f, []string{"ids", "join_eui"}, join)
	}
	if c.key("devaddr") != "" {
		if err := c.session(f); err != nil {
			return out, err
		}
	}
	out.warnings = c.attributes(f)
	if disabled, _ := c["isdisabled"].(bool); disabled {
		out.warnings = append(out.warnings, "the device was disabled in ChirpStack and takes uplinks here")
	}
	return out, nil
}

func firstOf(value any, preset string) string {
	if text, _ := value.(string); text != "" {
		return text
	}
	return preset
}

// rootKeys of LoRaWAN 1.1 keep their names; before, the one that ChirpStack calls nwk_key is the AppKey.
func (c chirpStackDevice) rootKeys(f map[string]any, version, nwk string) {
	app := c.key("appkey")
	if strings.Contains(version, "1_1") || strings.HasPrefix(version, "1.1") {
		set(f, []string{"root_keys", "nwk_key", "key"}, nwk)
		set(f, []string{"root_keys", "app_key", "key"}, app)
		return
	}
	if nwk == "" {
		nwk = app
	}
	set(f, []string{"root_keys", "app_key", "key"}, nwk)
}

func (c chirpStackDevice) session(f map[string]any) error {
	set(f, []string{"session", "dev_addr"}, c.text("devaddr"))
	for from, to := range map[string]string{"fnwksintkey": "f_nwk_s_int_key", "appskey": "app_s_key"} {
		if key := c.key(from); key != "" {
			set(f, []string{"session", "keys", to, "key"}, key)
		}
	}
	if key := c.key("nwkskey"); key != "" {
		set(f, []string{"session", "keys", "f_nwk_s_int_key", "key"}, key)
	}
	for _, counter := range []struct {
		from, to string
		back     uint64
	}{{"fcntup", "last_f_cnt_up", 1}, {"nfcntdown", "last_n_f_cnt_down", 0}, {"afcntdown", "last_a_f_cnt_down", 0}} { // one FCntDown is left out, to be sure
		text := c.text(counter.from)
		if text == "" {
			continue
		}
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return invalid("%s: want a number of 0 to 4294967295", counter.from)
		}
		if n >= counter.back {
			set(f, []string{"session", counter.to}, json.Number(strconv.FormatUint(n-counter.back, 10)))
		}
	}
	if c.text("fcntup") == "1" { // frame 0 was received
		set(f, []string{"mac_state", "f_cnt_up_used"}, true)
	}
	return nil
}

// profile takes over what a device profile of ChirpStack says of version, region and class.
func (c chirpStackDevice) profile(f map[string]any) {
	version := strings.TrimPrefix(c.text("macversion"), "LORAWAN_")
	if version != "" {
		if version = strings.ReplaceAll(version, ".", "_"); strings.Count(version, "_") == 2 {
			version = strings.TrimSuffix(version, "_0")
		}
		f["lorawan_version"] = "MAC_V" + version
	}
	revision := strings.ToUpper(strings.ReplaceAll(c.text("regparamsrevision"), ".", "_"))
	if phy := phyVersion(version, revision); phy != "" {
		f["lorawan_phy_version"] = phy
	}
	if plan := map[string]string{"EU868": "EU_863_870", "US915": "US_902_928_FSB_2"}[c.text("region")]; plan != "" {
		f["frequency_plan_id"] = plan
	}
	for from, to := range map[string]string{"supportsclassb": "supports_class_b", "supportsclassc": "supports_class_c"} {
		if on, _ := c[from].(bool); on {
			f[to] = true
		}
	}
	if delay := c.text("abprx1delay"); delay != "" && delay != "0" && c.key("nwkkey") == "" {
		set(f, []string{"mac_settings", "rx1_delay"}, delay)
	}
}

func phyVersion(version, revision string) string {
	switch {
	case strings.HasPrefix(revision, "RP002_"):
		return "RP002_V" + strings.TrimPrefix(revision, "RP002_")
	case version == "1_0":
		return "PHY_V1_0"
	case version == "1_0_1":
		return "PHY_V1_0_1"
	case version == "1_0_2" && revision == "B":
		return "PHY_V1_0_2_REV_B"
	case version == "1_0_2":
		return "PHY_V1_0_2_REV_A"
	case version == "1_0_3":
		return "PHY_V1_0_3_REV_A"
	case version == "1_0_4":
		return "RP002_V1_0_1"
	}
	return ""
}

// attributes takes over tags, as far as their names can be those of attributes.
func (c chirpStackDevice) attributes(f map[string]any) (warnings []string) {
	tags, _ := c["tags"].(map[string]any)
	for name, value := range tags {
		text, isText := value.(string)
		key := strings.ReplaceAll(strings.ToLower(name), "_", "-")
		if !isText || messages.ValidateID(key) != nil {
			warnings = append(warnings, "tag "+strconv.Quote(shorten(name))+" is left out: names of attributes have 3 to 36 lower-case letters, digits and dashes")
			continue
		}
		member(f, "attributes")[key] = text
	}
	return warnings
}

func shorten(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}
