package registry

import (
	"cmp"
	"encoding/hex"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// Limits of The Things Stack.
const (
	maxName           = 50
	maxDescription    = 2000
	maxAttributes     = 10
	maxAttributeValue = 200
	maxAddress        = 256
)

// refuse names the field and says what is allowed. Values are left out where they may be secrets.
func refuse(field, format string, args ...any) error {
	name := "invalid_" + field[strings.LastIndexByte(field, '.')+1:]
	return messages.Invalid(name, field+" "+format, args...)
}

// shorten keeps what a caller sent from filling logs.
func shorten(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}

func (r *Registry) stamps(created *time.Time) (createdAt, updatedAt *time.Time) {
	now := r.now()
	if created == nil {
		created = now
	}
	return created, now
}

// keepID fills in the id that the caller left out, and refuses another one.
func keepID(field string, id *string, want string) error {
	if *id != "" && *id != want {
		return refuse(field, "can't be changed from %q: create a new one under the other id", want)
	}
	*id = want
	return nil
}

func keepEUI(field string, eui **messages.EUI64, old *messages.EUI64) error {
	if old == nil {
		return nil
	}
	if *eui != nil && **eui != *old {
		return refuse(field, "can't be changed from %s: delete the end device and create it again", old)
	}
	*eui = old
	return nil
}

func checkText(field, text string, limit int) error {
	if n := utf8.RuneCountInString(text); n > limit {
		return refuse(field, "has %d characters: use at most %d", n, limit)
	}
	return nil
}

func checkAttributes(attributes map[string]string) error {
	if len(attributes) > maxAttributes {
		return refuse("attributes", "has %d pairs: use at most %d", len(attributes), maxAttributes)
	}
	for key, value := range attributes {
		if messages.ValidateID(key) != nil {
			return refuse("attributes", "has the key %q: use 3 to 36 lower-case letters, digits and single dashes", shorten(key))
		}
		if n := utf8.RuneCountInString(value); n > maxAttributeValue {
			return refuse("attributes", "has %d characters under %q: use at most %d", n, key, maxAttributeValue)
		}
	}
	return nil
}

func checkLocation(field string, l *v3.Location) error {
	if l == nil || l.Latitude >= -90 && l.Latitude <= 90 && l.Longitude >= -180 && l.Longitude <= 180 {
		return nil
	}
	return refuse(field, "is not on Earth: use a latitude of -90 to 90 and a longitude of -180 to 180 degrees")
}

func checkFrequencyPlan(field, id string) error {
	if _, _, ok := v3.FrequencyPlan(id); ok || id == "" {
		return nil
	}
	return refuse(field, "%q is not supported: use EU_863_870, EU_863_870_TTN, US_902_928 or US_902_928_FSB_1 to US_902_928_FSB_8", shorten(id))
}

func validateApplication(a *v3.Application) error {
	return cmp.Or(
		checkText("name", a.Name, maxName),
		checkText("description", a.Description, maxDescription),
		checkAttributes(a.Attributes),
		checkText("network_server_address", a.NetworkServerAddress, maxAddress),
		checkText("application_server_address", a.ApplicationServerAddress, maxAddress),
		checkText("join_server_address", a.JoinServerAddress, maxAddress),
	)
}

func validateGateway(g *v3.Gateway) error {
	if g.IDs.EUI != nil && g.IDs.EUI.IsZero() {
		return refuse("ids.eui", "is all zeros: set the EUI that the radio gateway sends, or leave it out")
	}
	if len(g.FrequencyPlanIDs) > 8 {
		return refuse("frequency_plan_ids", "has %d entries: use at most 8", len(g.FrequencyPlanIDs))
	}
	if len(g.Antennas) > 8 {
		return refuse("antennas", "has %d entries: use at most 8", len(g.Antennas))
	}
	for _, id := range append([]string{g.FrequencyPlanID}, g.FrequencyPlanIDs...) {
		if err := checkFrequencyPlan("frequency_plan_id", id); err != nil {
			return err
		}
	}
	for _, a := range g.Antennas {
		if err := checkLocation("antennas.location", a.Location); err != nil {
			return err
		}
	}
	return cmp.Or(
		checkText("name", g.Name, maxName),
		checkText("description", g.Description, maxDescription),
		checkAttributes(g.Attributes),
	)
}

// applicationRights in the order of The Things Stack.
var applicationRights = []messages.Right{
	messages.RightApplicationAll, messages.RightApplicationInfo, messages.RightApplicationSettingsBasic, messages.RightApplicationSettingsAPIKeys,
	messages.RightApplicationSettingsCollab, messages.RightApplicationSettingsPackages, messages.RightApplicationDelete,
	messages.RightApplicationDevicesRead, messages.RightApplicationDevicesWrite, messages.RightApplicationDevicesReadKeys,
	messages.RightApplicationDevicesWriteKeys, messages.RightApplicationTrafficRead, messages.RightApplicationTrafficUpWrite,
	messages.RightApplicationTrafficDownWrite, messages.RightApplicationLink,
}

var adminRights = []messages.Right{messages.RightApplicationAll, messages.RightGatewayAll}

func validateApplicationKey(k *v3.APIKey) error {
	if len(k.Rights) == 0 {
		return refuse("rights", "is empty: name at least one, e.g. %s", messages.RightApplicationTrafficRead)
	}
	for _, right := range k.Rights {
		if !slices.Contains(applicationRights, right) {
			return refuse("rights", "has %q, which is not a right on an application: use any of %s", shorten(string(right)), joinNames(applicationRights))
		}
	}
	k.Rights = slices.Compact(slices.Sorted(slices.Values(k.Rights)))
	return checkText("name", k.Name, maxName)
}

// validateAdminKey refuses a list of some rights: an admin key would give more than was asked for.
func validateAdminKey(k *v3.APIKey) error {
	rights := slices.Compact(slices.Sorted(slices.Values(k.Rights)))
	if len(rights) > 0 && !slices.Equal(rights, adminRights) {
		return refuse("rights", "of an admin key are all rights: leave the list out, or create the key in an application")
	}
	k.Rights = slices.Clone(adminRights)
	return checkText("name", k.Name, maxName)
}

func joinNames[T ~string](names []T) string {
	var b strings.Builder
	for i, n := range names {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(n))
	}
	return b.String()
}

func validateFormatters(field string, f *v3.Formatters) error {
	if f == nil {
		return nil
	}
	return cmp.Or(
		checkFormatter(field, "up_formatter", f.UpFormatter, f.UpFormatterParameter),
		checkFormatter(field, "down_formatter", f.DownFormatter, f.DownFormatterParameter),
	)
}

var formatterKinds = []messages.FormatterKind{
	messages.FormatterNone, messages.FormatterRepository, messages.FormatterJavaScript, messages.FormatterLua, messages.FormatterCayenneLPP,
}

func checkFormatter(field, name string, kind messages.FormatterKind, parameter string) error {
	switch {
	case kind == "FORMATTER_GRPC_SERVICE":
		return refuse(field+"."+name, "%s is not supported: use one of %s", kind, joinNames(formatterKinds))
	case kind != "" && !slices.Contains(formatterKinds, kind):
		return refuse(field+"."+name, "%q is unknown: use one of %s", shorten(string(kind)), joinNames(formatterKinds))
	case len(parameter) > messages.MaxFormatterSource:
		return messages.Invalid("formatter_script_too_large", "%s.%s_parameter has %d bytes: use at most %d", field, name, len(parameter), messages.MaxFormatterSource)
	}
	return nil
}

// hasControl finds what would split a header, a topic or a log line.
func hasControl(text string) bool {
	return strings.ContainsFunc(text, unicode.IsControl) || !utf8.ValidString(text)
}

func checkHex(field, text string, digits int) error {
	if _, err := hex.DecodeString(text); text != "" && (err != nil || len(text) != digits) {
		return refuse(field, "must have %d hex digits", digits)
	}
	return nil
}
