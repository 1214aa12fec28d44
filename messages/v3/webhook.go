package v3

import (
	"encoding/json"
	"fmt"
	"log/slog"
)

// WebhookBatch says that a webhook takes several events in one request, as a JSON array.
type WebhookBatch struct {
	MaxEvents Uint32   `json:"max_events,omitempty"` // in one request
	MaxWait   Duration `json:"max_wait,omitempty"`   // for a request that is not full
}

// Secrets is a list of texts that never print themselves, outside of JSON for those who may see them and of sealed records. A single string is accepted.
type Secrets []string

// UnmarshalJSON takes a string or a list of strings.
func (s *Secrets) UnmarshalJSON(in []byte) error {
	var one *string
	if json.Unmarshal(in, &one) == nil {
		*s = nil
		if one != nil && *one != "" {
			*s = Secrets{*one}
		}
		return nil
	}
	var all []string
	if json.Unmarshal(in, &all) != nil { // its error may quote a secret
		return fmt.Errorf("want a string or a list of strings")
	}
	*s = all
	return nil
}

func (s Secrets) String() string             { return "***" }
func (s Secrets) GoString() string           { return "***" }
func (s Secrets) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("***")) }
func (s Secrets) LogValue() slog.Value       { return slog.StringValue("***") }

// TemplateIDs names a webhook template.
type TemplateIDs struct {
	TemplateID string `json:"template_id,omitempty"`
}

// WebhookTemplate describes how to reach a well-known target. In base URL, headers and paths, {id} stands for the value of the field with that id.
type WebhookTemplate struct {
	IDs                  TemplateIDs            `json:"ids,omitzero"`
	Name                 string                 `json:"name,omitempty"`
	Description          string                 `json:"description,omitempty"`
	LogoURL              string                 `json:"logo_url,omitempty"`
	InfoURL              string                 `json:"info_url,omitempty"`
	DocumentationURL     string                 `json:"documentation_url,omitempty"`
	BaseURL              string                 `json:"base_url,omitempty"`
	Headers              map[string]string      `json:"headers,omitempty"`
	Format               string                 `json:"format,omitempty"`
	Fields               []WebhookTemplateField `json:"fields,omitempty"`
	CreateDownlinkAPIKey bool                   `json:"create_downlink_api_key,omitempty"`
	FieldMask            *FieldMask             `json:"field_mask,omitempty"`

	UplinkMessage            *MessagePath `json:"uplink_message,omitempty"`
	UplinkNormalized         *MessagePath `json:"uplink_normalized,omitempty"`
	JoinAccept               *MessagePath `json:"join_accept,omitempty"`
	DownlinkAck              *MessagePath `json:"downlink_ack,omitempty"`
	DownlinkNack             *MessagePath `json:"downlink_nack,omitempty"`
	DownlinkSent             *MessagePath `json:"downlink_sent,omitempty"`
	DownlinkFailed           *MessagePath `json:"downlink_failed,omitempty"`
	DownlinkQueued           *MessagePath `json:"downlink_queued,omitempty"`
	DownlinkQueueInvalidated *MessagePath `json:"downlink_queue_invalidated,omitempty"`
	LocationSolved           *MessagePath `json:"location_solved,omitempty"`
	ServiceData              *MessagePath `json:"service_data,omitempty"`
}

// WebhookTemplateField is what a user fills in.
type WebhookTemplateField struct {
	ID           string `json:"id,omitempty"`
	Name         string `json:"name,omitempty"`
	Description  string `json:"description,omitempty"`
	Secret       bool   `json:"secret,omitempty"`
	DefaultValue string `json:"default_value,omitempty"`
	Optional     bool   `json:"optional,omitempty"`
}
