package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"slices"

	"lorikeet/gateways/rest/devicefile"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

const maxTemplates = 64 << 20 // bytes of a body with a file of devices in base64

// templateFormat describes a file format, as The Things Stack does.
type templateFormat struct {
	Name           string   `json:"name"`
	Description    string   `json:"description"`
	FileExtensions []string `json:"file_extensions"`
}

var templateFormats = map[devicefile.Format]templateFormat{
	devicefile.JSON:       {"The Things Stack JSON", "File containing end devices in The Things Stack JSON format.", []string{".json"}},
	devicefile.CSV:        {"The Things Stack CSV", "File containing end devices in The Things Stack CSV format.", []string{".csv"}},
	devicefile.ChirpStack: {"ChirpStack JSON", "File containing end devices as the API of ChirpStack v4 gives them, with keys and activations.", []string{".json", ".csv"}},
}

func (s *Server) listTemplateFormats(c *call) error {
	return c.JSON(http.StatusOK, map[string]any{"formats": templateFormats})
}

// template is a device that a client may complete and create.
type template struct {
	EndDevice json.RawMessage `json:"end_device"`
	FieldMask v3.FieldMask    `json:"field_mask"`
}

type convertRequest struct {
	FormatID devicefile.Format `json:"format_id"`
	Data     v3.Bytes          `json:"data"`
}

// convertTemplates answers with one template for each device of a file, and ends at the first that can't be read, as The Things Stack does.
func (s *Server) convertTemplates(c *call) error {
	raw, err := io.ReadAll(http.MaxBytesReader(c.Response(), c.Request().Body, maxTemplates))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return err
	}
	if err != nil {
		return messages.Invalid("read_body", "the body did not arrive whole: send it again")
	}
	if raw, err = settleBody(raw); err != nil {
		return err
	}
	body, _, err := decodeValue[convertRequest]("", raw)
	if err != nil {
		return err
	}
	if _, known := templateFormats[body.FormatID]; !known {
		return messages.NotFound("template_format_not_found", "format_id %q is not known: use one of those that GET /edtc/formats lists", shorten(string(body.FormatID)))
	}
	file, err := devicefile.NewReader(bytes.NewReader(body.Data), devicefile.Options{Format: body.FormatID})
	if err != nil {
		return err
	}
	out := newDownload(c, "application/x-ndjson", true)
	defer out.close()
	for {
		row, err := file.Next()
		if errors.Is(err, io.EOF) {
			return out.finish("")
		}
		if err == nil {
			err = row.Err
		}
		if err == nil {
			err = writeTemplate(&out.buffer, row.Device)
		}
		if err == nil {
			err = out.flush()
		}
		if err != nil && out.sent {
			s.failLate(c, out, err, "\n")
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func writeTemplate(to *bytes.Buffer, device json.RawMessage) error {
	fields, err := decodeTree(device)
	if err != nil {
		return err
	}
	known, _ := onlyKnown(fields, reflect.TypeFor[v3.EndDevice]()).(tree)
	t := template{FieldMask: v3.FieldMask{Paths: leaves(known, "")}}
	if t.EndDevice, err = json.Marshal(known); err != nil {
		return err
	}
	line, err := json.Marshal(map[string]template{"result": t})
	to.Write(append(line, '\n'))
	return err
}

// leaves are the paths of all members, sorted. Members whose own members are the user's count as one.
func leaves(t tree, path string) (paths []string) {
	for name, value := range t {
		if path != "" {
			name = path + "." + name
		}
		if inner, ok := value.(tree); ok && len(inner) > 0 && !whole[name] {
			paths = append(paths, leaves(inner, name)...)
			continue
		}
		paths = append(paths, name)
	}
	slices.Sort(paths)
	return paths
}
