package repository

import (
	"errors"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// codecFile is a <codec>.yaml.
type codecFile struct {
	UplinkDecoder   part `yaml:"uplinkDecoder"`
	DownlinkEncoder part `yaml:"downlinkEncoder"`
	DownlinkDecoder part `yaml:"downlinkDecoder"`
}

func (f *codecFile) part(use messages.CodecUse) part {
	switch use {
	case messages.UplinkDecoder:
		return f.UplinkDecoder
	case messages.DownlinkEncoder:
		return f.DownlinkEncoder
	}
	return f.DownlinkDecoder
}

// part of a codec. Its examples are read when they are asked for: one that is malformed must not keep the codec from working.
type part struct {
	FileName string    `yaml:"fileName"`
	Examples yaml.Node `yaml:"examples"`
}

var codecName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}/[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)

// question is who asks for which codec.
type question struct {
	name string
	ids  messages.VersionIDs
	use  messages.CodecUse
}

// choice is the answer, which is believed for a while.
type choice struct {
	until     time.Time
	formatter messages.Formatter
	err       error
}

// Codec gives the script for a use. A name, "vendor/codec", wins over ids; what is no such name is passed over, as The Things Stack does with all parameters
// of this formatter. Of ids the brand and the model are needed; firmware and band may be left out as
// long as all that remain lead to one codec.
func (r *Repository) Codec(name string, ids *messages.VersionIDs, use messages.CodecUse) (messages.Formatter, error) {
	q := question{name: name, use: use}
	if !codecName.MatchString(name) {
		q.name = ""
	}
	if ids != nil && q.name == "" {
		q.ids = *ids
		q.ids.HardwareVersion = "" // says nothing about the codec
	}
	now := r.clock()
	r.mu.Lock()
	known, ok := r.choices[q]
	r.mu.Unlock()
	if ok && now.Before(known.until) {
		return known.formatter, known.err
	}
	known = choice{until: now.Add(freshFor)}
	known.formatter, known.err = r.choose(q)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.choices) >= maxRemember {
		clear(r.choices)
	}
	r.choices[q] = known
	return known.formatter, known.err
}

func (r *Repository) choose(q question) (messages.Formatter, error) {
	vendor, codec, err := r.codecOf(q.name, q.ids)
	if err != nil {
		return messages.Formatter{}, err
	}
	_, f, err := r.part(vendor, codec, q.use)
	return f, err
}

// codecOf names the codec that a name or ids lead to.
func (r *Repository) codecOf(name string, ids messages.VersionIDs) (vendor, codec string, err error) {
	if name != "" {
		vendor, codec, _ := strings.Cut(name, "/")
		return vendor, codec, nil
	}
	if ids.BrandID == "" || ids.ModelID == "" {
		return "", "", messages.Invalid("no_version_identifiers", "the device has no version_ids with brand_id and model_id, by which a codec is found: set them, or name a codec, vendor/codec, in the formatter's parameter")
	}
	profiles, err := r.profiles(ids)
	if err != nil {
		return "", "", err
	}
	codecs := map[string]bool{}
	for _, p := range profiles {
		codecs[p.CodecID] = true
	}
	delete(codecs, "")
	switch found := slices.Sorted(maps.Keys(codecs)); len(found) {
	case 0:
		return "", "", messages.NotFound("no_codec", "model %s of %s has no codec for firmware %q and band %q in the device repository", ids.ModelID, ids.BrandID, ids.FirmwareVersion, ids.BandID)
	case 1:
		return ids.BrandID, found[0], nil
	default:
		return "", "", messages.Invalid("no_version_identifiers", "model %s of %s has several codecs (%s): set firmware_version and band_id in version_ids", ids.ModelID, ids.BrandID, strings.Join(found, ", "))
	}
}

// profiles of a model that ids allow; what ids leave open is not looked at. There is one at least.
func (r *Repository) profiles(ids messages.VersionIDs) ([]v3.ModelProfile, error) {
	m, err := r.Model(ids.BrandID, ids.ModelID)
	if err != nil {
		return nil, err
	}
	var firmwares []v3.FirmwareVersion
	for _, version := range m.FirmwareVersions {
		if ids.FirmwareVersion == "" || version.Version == ids.FirmwareVersion {
			firmwares = append(firmwares, version)
		}
	}
	if len(firmwares) == 0 {
		return nil, messages.NotFound("firmware_version_not_found", "firmware version %.64q of model %s of %s not found in the device repository", ids.FirmwareVersion, ids.ModelID, ids.BrandID)
	}
	var out []v3.ModelProfile
	for _, version := range firmwares {
		for _, band := range slices.Sorted(maps.Keys(version.Profiles)) {
			if ids.BandID == "" || band == ids.BandID {
				out = append(out, version.Profiles[band])
			}
		}
	}
	if len(out) == 0 {
		return nil, messages.NotFound("no_profile_for_band", "model %s of %s has no profile for band %.64q in the device repository", ids.ModelID, ids.BrandID, ids.BandID)
	}
	return out, nil
}

// part reads one part of a codec and its script.
func (r *Repository) part(vendor, codec string, use messages.CodecUse) (part, messages.Formatter, error) {
	file, err := r.codecFile(vendor, codec)
	if err != nil {
		return part{}, messages.Formatter{}, err
	}
	p := file.part(use)
	if p.FileName == "" {
		name := "no_decoder"
		if use == messages.DownlinkEncoder {
			name = "no_encoder"
		}
		return part{}, messages.Formatter{}, messages.NotFound(name, "codec %s/%s of the device repository has no %s", vendor, codec, use)
	}
	name, err := inVendor(vendor, p.FileName)
	if err != nil {
		return part{}, messages.Formatter{}, err
	}
	source, err := r.script(name)
	if err != nil {
		return part{}, messages.Formatter{}, broken(err)
	}
	f := messages.Formatter{Kind: messages.FormatterJavaScript, Parameter: source}
	if strings.HasSuffix(name, ".lua") {
		f.Kind = messages.FormatterLua
	}
	return p, f, nil
}

func (r *Repository) codecFile(vendor, codec string) (*codecFile, error) {
	name, err := inVendor(vendor, codec+".yaml")
	if err != nil {
		return nil, err
	}
	file, err := document[codecFile](r, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, messages.NotFound("no_codec", "codec %s/%s not found in the device repository", vendor, codec)
	}
	if err != nil {
		return nil, broken(err)
	}
	return &file, nil
}

// MessageCodec gives a codec as the API shows it.
func (r *Repository) MessageCodec(ids messages.VersionIDs, use messages.CodecUse) (v3.MessagePayloadCodec, error) {
	vendor, codec, err := r.codecOf("", ids)
	if err != nil {
		return v3.MessagePayloadCodec{}, err
	}
	p, f, err := r.part(vendor, codec, use)
	if err != nil {
		return v3.MessagePayloadCodec{}, err
	}
	out := v3.MessagePayloadCodec{Formatter: string(f.Kind), FormatterParameter: f.Parameter, CodecID: codec}
	examples, _ := p.examples() // those that can be read
	for _, e := range examples {
		out.Examples = append(out.Examples, v3.CodecExample{Description: e.Description, Input: e.Input.shown(), Output: e.Output.shown()})
	}
	return out, nil
}
