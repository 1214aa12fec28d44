package repository

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// example of a codec, as vendors write it.
type example struct {
	Description      string       `yaml:"description"`
	Input            exampleValue `yaml:"input"`
	Output           exampleValue `yaml:"output"`
	NormalizedOutput exampleValue `yaml:"normalizedOutput"`
}

type exampleValue struct {
	FPort    uint32    `yaml:"fPort"`
	Bytes    []byteOf  `yaml:"bytes"`
	RecvTime string    `yaml:"recvTime"`
	Data     yaml.Node `yaml:"data"`
	Warnings []string  `yaml:"warnings"`
	Errors   []string  `yaml:"errors"`
}

// byteOf wraps what is out of range, as typed arrays do: some vendors write such examples.
type byteOf byte

func (b *byteOf) UnmarshalYAML(node *yaml.Node) error {
	var n int64
	err := node.Decode(&n)
	*b = byteOf(n)
	return err
}

func (v exampleValue) bytes() []byte {
	if v.Bytes == nil {
		return nil
	}
	out := make([]byte, len(v.Bytes))
	for i, b := range v.Bytes {
		out[i] = byte(b)
	}
	return out
}

// data is nil if there are none, or if JSON can't hold them.
func (v exampleValue) data() json.RawMessage {
	if v.Data.IsZero() {
		return nil
	}
	var raw any
	if err := v.Data.Decode(&raw); err != nil {
		return nil
	}
	text, err := json.Marshal(jsonValue(raw))
	if err != nil {
		return nil
	}
	return text
}

func (v exampleValue) shown() v3.CodecExampleValue {
	return v3.CodecExampleValue{FPort: v3.Uint32(v.FPort), FRMPayload: v.bytes(), Data: v.data(), Warnings: v.Warnings, Errors: v.Errors}
}

// jsonValue makes of what YAML has what a script would have made: keys are texts, times are those of Date.toISOString, NaN is null.
func jsonValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, member := range v {
			v[key] = jsonValue(member)
		}
		return v
	case map[any]any:
		out := make(map[string]any, len(v))
		for key, member := range v {
			out[fmt.Sprint(key)] = jsonValue(member)
		}
		return out
	case []any:
		for i := range v {
			v[i] = jsonValue(v[i])
		}
		return v
	case time.Time:
		return v.UTC().Format("2006-01-02T15:04:05.000Z")
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil
		}
	}
	return v
}

// Example is one that a vendor gives for a codec. Bytes, FPort and RecvTime are the input of a decoder, Data and FPort that of an encoder.
type Example struct {
	Codec       string // vendor/codec
	Use         messages.CodecUse
	Description string
	FPort       uint32
	Bytes       []byte
	RecvTime    string
	Data        json.RawMessage
	Want        ExampleOutput
}

// ExampleOutput is what a codec is to return. Nil members were not given.
type ExampleOutput struct {
	Data, Normalized json.RawMessage
	Bytes            []byte
	FPort            uint32
	Warnings, Errors []string
}

// Examples of all codecs of all vendors, sorted by codec. An error is about a file or an example that can't be used; the others are given all the same.
func (r *Repository) Examples() (out []Example, errs []error) {
	files, err := fs.Glob(r.fsys, "vendor/*/*.yaml")
	if err != nil {
		return nil, []error{err}
	}
	slices.Sort(files)
	for _, name := range files {
		vendor, file, _ := strings.Cut(strings.TrimPrefix(name, "vendor/"), "/")
		codec, err := document[codecFile](r, name) // a model or a profile has none of its members
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, use := range []messages.CodecUse{messages.UplinkDecoder, messages.DownlinkEncoder, messages.DownlinkDecoder} {
			id, p := vendor+"/"+strings.TrimSuffix(file, ".yaml"), codec.part(use)
			examples, err := p.examples()
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %s: %w", name, use, err))
			}
			for _, e := range examples {
				out = append(out, e.of(id, use))
			}
		}
	}
	return out, errs
}

// examples that can be read; the error is about the first that can't.
func (p part) examples() (out []example, err error) {
	for i, node := range p.Examples.Content {
		var e example
		if bad := node.Decode(&e); bad != nil {
			if err == nil {
				err = fmt.Errorf("example %d: %w", i+1, bad)
			}
			continue
		}
		out = append(out, e)
	}
	return out, err
}

func (e example) of(codec string, use messages.CodecUse) Example {
	return Example{
		Codec: codec, Use: use, Description: e.Description, FPort: e.Input.FPort, Bytes: e.Input.bytes(), RecvTime: e.Input.RecvTime, Data: e.Input.data(),
		Want: ExampleOutput{Data: e.Output.data(), Normalized: e.NormalizedOutput.data(), Bytes: e.Output.bytes(), FPort: e.Output.FPort, Warnings: e.Output.Warnings, Errors: e.Output.Errors},
	}
}
