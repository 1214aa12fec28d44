package webhook

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

//go:embed templates/*.yaml
var catalogue embed.FS

// Templates are descriptions of well-known targets, from which webhooks are made.
type Templates struct {
	sorted []v3.WebhookTemplate
}

// templateFile is a template in the YAML of The Things Stack. Unknown keys are ignored, as newer files may have more.
type templateFile struct {
	TemplateID           string            `yaml:"template-id"`
	Name                 string            `yaml:"name"`
	Description          string            `yaml:"description"`
	LogoURL              string            `yaml:"logo-url"`
	InfoURL              string            `yaml:"info-url"`
	DocumentationURL     string            `yaml:"documentation-url"`
	BaseURL              string            `yaml:"base-url"`
	Headers              map[string]string `yaml:"headers"`
	Format               string            `yaml:"format"`
	CreateDownlinkAPIKey bool              `yaml:"create-downlink-api-key"`
	Fields               []struct {
		ID           string `yaml:"id"`
		Name         string `yaml:"name"`
		Description  string `yaml:"description"`
		Secret       bool   `yaml:"secret"`
		DefaultValue string `yaml:"default-value"`
		Optional     bool   `yaml:"optional"`
	} `yaml:"fields"`
	Paths struct {
		UplinkMessage            *string `yaml:"uplink-message"`
		UplinkNormalized         *string `yaml:"uplink-normalized"`
		JoinAccept               *string `yaml:"join-accept"`
		DownlinkAck              *string `yaml:"downlink-ack"`
		DownlinkNack             *string `yaml:"downlink-nack"`
		DownlinkSent             *string `yaml:"downlink-sent"`
		DownlinkFailed           *string `yaml:"downlink-failed"`
		DownlinkQueued           *string `yaml:"downlink-queued"`
		DownlinkQueueInvalidated *string `yaml:"downlink-queue-invalidated"`
		LocationSolved           *string `yaml:"location-solved"`
		ServiceData              *string `yaml:"service-data"`
	} `yaml:"paths"`
	FieldMask []string `yaml:"field-mask"`
}

// LoadTemplates reads the built-in catalogue, and the .yml and .yaml files of a folder beside it ("": none). One of the folder takes the place of a
// built-in one with its id. templates.yml, the list of ids in a folder of The Things Stack, is passed over.
func LoadTemplates(folder string) (*Templates, error) {
	byID := map[string]v3.WebhookTemplate{}
	if err := readTemplates(catalogue, "templates", byID); err != nil {
		return nil, err
	}
	if folder != "" {
		if err := readTemplates(os.DirFS(folder), ".", byID); err != nil {
			return nil, fmt.Errorf("webhook templates in %s: %w", folder, err)
		}
	}
	t := &Templates{}
	for _, template := range byID {
		t.sorted = append(t.sorted, template)
	}
	slices.SortFunc(t.sorted, func(a, b v3.WebhookTemplate) int { return strings.Compare(a.IDs.TemplateID, b.IDs.TemplateID) })
	return t, nil
}

func readTemplates(files fs.FS, folder string, to map[string]v3.WebhookTemplate) error {
	entries, err := fs.ReadDir(files, folder)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		if ext := path.Ext(name); entry.IsDir() || ext != ".yaml" && ext != ".yml" || name == "templates.yml" || strings.HasPrefix(name, ".") {
			continue
		}
		text, err := fs.ReadFile(files, path.Join(folder, name))
		if err != nil {
			return err
		}
		template, err := parseTemplate(text)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		to[template.IDs.TemplateID] = template
	}
	return nil
}

func parseTemplate(text []byte) (v3.WebhookTemplate, error) {
	var f templateFile
	if err := yaml.Unmarshal(text, &f); err != nil {
		return v3.WebhookTemplate{}, err
	}
	p := func(path *string) *v3.MessagePath {
		if path == nil {
			return nil
		}
		return &v3.MessagePath{Path: *path}
	}
	t := v3.WebhookTemplate{
		IDs: v3.TemplateIDs{TemplateID: f.TemplateID}, Name: f.Name, Description: f.Description, LogoURL: f.LogoURL, InfoURL: f.InfoURL, DocumentationURL: f.DocumentationURL,
		BaseURL: f.BaseURL, Headers: f.Headers, Format: f.Format, CreateDownlinkAPIKey: f.CreateDownlinkAPIKey,
		UplinkMessage: p(f.Paths.UplinkMessage), UplinkNormalized: p(f.Paths.UplinkNormalized), JoinAccept: p(f.Paths.JoinAccept), DownlinkAck: p(f.Paths.DownlinkAck),
		DownlinkNack: p(f.Paths.DownlinkNack), DownlinkSent: p(f.Paths.DownlinkSent), DownlinkFailed: p(f.Paths.DownlinkFailed), DownlinkQueued: p(f.Paths.DownlinkQueued),
		DownlinkQueueInvalidated: p(f.Paths.DownlinkQueueInvalidated), LocationSolved: p(f.Paths.LocationSolved), ServiceData: p(f.Paths.ServiceData),
	}
	if t.Format == "" {
		t.Format = formatJSON
	}
	if len(f.FieldMask) > 0 {
		t.FieldMask = &v3.FieldMask{Paths: f.FieldMask}
	}
	for _, field := range f.Fields {
		t.Fields = append(t.Fields, v3.WebhookTemplateField(field))
	}
	return t, checkTemplate(t)
}

var (
	fieldID  = regexp.MustCompile(`^[A-Za-z0-9_-]{1,50}$`)
	urlNames = []string{"appID", "applicationID", "appEUI", "joinEUI", "devID", "deviceID", "devEUI", "devAddr"}
)

func checkTemplate(t v3.WebhookTemplate) error {
	if err := messages.ValidateID(t.IDs.TemplateID); err != nil {
		return fmt.Errorf("template-id: %w", err)
	}
	seen := map[string]bool{}
	for _, f := range t.Fields {
		switch {
		case !fieldID.MatchString(f.ID):
			return fmt.Errorf("field id %.60q: use letters, digits, _ and -", f.ID)
		case slices.Contains(urlNames, f.ID):
			return fmt.Errorf("field id %q is a variable of URLs: choose another name", f.ID)
		case seen[f.ID]:
			return fmt.Errorf("field id %q is there twice", f.ID)
		}
		seen[f.ID] = true
	}
	if t.BaseURL == "" {
		return errors.New("base-url is missing")
	}
	return nil
}

// All templates, by id.
func (t *Templates) All() []v3.WebhookTemplate { return slices.Clone(t.sorted) }

// Template gives one; webhook_template_not_found.
func (t *Templates) Template(id string) (v3.WebhookTemplate, error) {
	i := slices.IndexFunc(t.sorted, func(w v3.WebhookTemplate) bool { return w.IDs.TemplateID == id })
	if i < 0 {
		return v3.WebhookTemplate{}, messages.NotFound("webhook_template_not_found", "there is no webhook template %.40q: GET /api/v3/as/webhook-templates lists them", id)
	}
	return t.sorted[i], nil
}
