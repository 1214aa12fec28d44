package rest

import (
	"net/http"
	"strconv"
	"strings"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// DeviceRepository knows models of devices. Its refusals are messages.Error.
type DeviceRepository interface {
	Brands() ([]v3.EndDeviceBrand, error)
	Brand(brandID string) (v3.EndDeviceBrand, error)
	// Models are those of a brand, of all if brandID is empty.
	Models(brandID string) ([]v3.EndDeviceModel, error)
	Model(brandID, modelID string) (v3.EndDeviceModel, error)
	Template(ids messages.VersionIDs) (v3.EndDeviceTemplate, error)
	// VendorTemplate takes the numbers of a QR code: that of the vendor at the LoRa Alliance, and the vendor's own of the profile.
	VendorTemplate(vendorID, vendorProfileID uint32) (v3.EndDeviceTemplate, error)
	MessageCodec(ids messages.VersionIDs, use messages.CodecUse) (v3.MessagePayloadCodec, error)
}

// deviceRepositoryRoutes are those of The Things Stack, and the older ones that name an application.
func deviceRepositoryRoutes() []route {
	const model = "/brands/:brand_id/models/:model_id"
	var out []route
	for prefix, access := range map[string]access{"/dr": anyKey, "/dr/applications/:application_id": application()} {
		version := prefix + model + "/:firmware_version/:band_id"
		out = append(out,
			route{http.MethodGet, prefix + "/brands", access, (*Server).listBrands},
			route{http.MethodGet, prefix + "/brands/:brand_id", access, (*Server).getBrand},
			route{http.MethodGet, prefix + "/models", access, (*Server).listModels},
			route{http.MethodGet, prefix + "/brands/:brand_id/models", access, (*Server).listModels},
			route{http.MethodGet, prefix + model, access, (*Server).getModel},
			route{http.MethodGet, version + "/template", access, (*Server).getDeviceTemplate},
			route{http.MethodGet, prefix + "/vendors/:vendor_id/profiles/:vendor_profile_id/template", access, (*Server).getVendorTemplate},
			route{http.MethodGet, version + "/formatters/uplink/decoder", access, showCodec(messages.UplinkDecoder)},
			route{http.MethodGet, version + "/formatters/downlink/encoder", access, showCodec(messages.DownlinkEncoder)},
			route{http.MethodGet, version + "/formatters/downlink/decoder", access, showCodec(messages.DownlinkDecoder)},
		)
	}
	return out
}

var (
	brandOrders = orders[v3.EndDeviceBrand]{
		"brand_id": func(b *v3.EndDeviceBrand) string { return b.BrandID },
		"name":     func(b *v3.EndDeviceBrand) string { return b.Name },
	}
	modelOrders = orders[v3.EndDeviceModel]{
		"brand_id": func(m *v3.EndDeviceModel) string { return m.BrandID },
		"model_id": func(m *v3.EndDeviceModel) string { return m.ModelID },
		"name":     func(m *v3.EndDeviceModel) string { return m.Name },
	}
)

func (s *Server) deviceRepository() (DeviceRepository, error) {
	if s.cfg.DeviceRepository == nil {
		return nil, messages.Errorf(messages.CodePrecondition, "no_device_repository", "the server has no device repository: set formatters.repository in its configuration")
	}
	return s.cfg.DeviceRepository, nil
}

func (s *Server) listBrands(c *call) error {
	r, err := s.deviceRepository()
	if err != nil {
		return err
	}
	brands, err := r.Brands()
	if err != nil {
		return err
	}
	found := matching(c, brands, func(b *v3.EndDeviceBrand) []string { return []string{b.BrandID, b.Name} })
	show, err := shownOfRepository[v3.EndDeviceBrand](c)
	if err != nil {
		return err
	}
	return listed(c, "brands", found, brandOrders, show)
}

func (s *Server) getBrand(c *call) error {
	r, err := s.deviceRepository()
	if err != nil {
		return err
	}
	brand, err := r.Brand(c.Param("brand_id"))
	return answerOfRepository(c, brand, err)
}

func (s *Server) listModels(c *call) error {
	r, err := s.deviceRepository()
	if err != nil {
		return err
	}
	models, err := r.Models(c.Param("brand_id"))
	if err != nil {
		return err
	}
	found := matching(c, models, func(m *v3.EndDeviceModel) []string { return []string{m.BrandID, m.ModelID, m.Name, m.Description} })
	show, err := shownOfRepository[v3.EndDeviceModel](c)
	if err != nil {
		return err
	}
	return listed(c, "models", found, modelOrders, show)
}

func (s *Server) getModel(c *call) error {
	r, err := s.deviceRepository()
	if err != nil {
		return err
	}
	model, err := r.Model(c.Param("brand_id"), c.Param("model_id"))
	return answerOfRepository(c, model, err)
}

// versionIDs are those of the path. A hyphen alone stands for what the caller does not know.
func (c *call) versionIDs() messages.VersionIDs {
	known := func(name string) string {
		if value := c.Param(name); value != "-" {
			return value
		}
		return ""
	}
	return messages.VersionIDs{BrandID: c.Param("brand_id"), ModelID: c.Param("model_id"), FirmwareVersion: known("firmware_version"), BandID: known("band_id")}
}

func (s *Server) getDeviceTemplate(c *call) error {
	r, err := s.deviceRepository()
	if err != nil {
		return err
	}
	template, err := r.Template(c.versionIDs())
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, template)
}

func (s *Server) getVendorTemplate(c *call) error {
	r, err := s.deviceRepository()
	if err != nil {
		return err
	}
	var ids [2]uint32
	for i, name := range []string{"vendor_id", "vendor_profile_id"} {
		n, err := strconv.ParseUint(c.Param(name), 10, 32)
		if err != nil {
			return messages.Invalid("invalid_"+name, "%s %q in the path: use the number of lora_alliance_profile_ids", name, shorten(c.Param(name)))
		}
		ids[i] = uint32(n)
	}
	template, err := r.VendorTemplate(ids[0], ids[1])
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, template)
}

// showCodec answers with the script; examples are shown if the field mask names them, as in The Things Stack.
func showCodec(use messages.CodecUse) func(*Server, *call) error {
	return func(s *Server, c *call) error {
		r, err := s.deviceRepository()
		if err != nil {
			return err
		}
		paths, err := c.readPaths()
		if err != nil {
			return err
		}
		codec, err := r.MessageCodec(c.versionIDs(), use)
		if err != nil {
			return err
		}
		if !overlaps(paths, "examples") {
			codec.Examples = nil
		}
		return c.JSON(http.StatusOK, codec)
	}
}

// matching are the items of which a text contains the query's search words, all of them, in any case.
func matching[T any](c *call, items []T, texts func(*T) []string) []T {
	words := strings.Fields(strings.ToLower(c.QueryParam("search")))
	var out []T
	for i := range items {
		text, all := strings.ToLower(strings.Join(texts(&items[i]), " ")), true
		for _, w := range words {
			all = all && strings.Contains(text, w)
		}
		if all {
			out = append(out, items[i])
		}
	}
	return out
}

// shownOfRepository shows the ids and what the field mask names; everything if there is no mask.
func shownOfRepository[T any](c *call) (func(*T) (any, error), error) {
	paths, err := c.readPaths()
	if err != nil {
		return nil, err
	}
	if paths == nil {
		paths = []string{everything}
	}
	paths = append(paths, "brand_id", "model_id")
	return func(v *T) (any, error) { return masked(v, paths, nil) }, nil
}

func answerOfRepository[T any](c *call, v T, err error) error {
	if err != nil {
		return err
	}
	show, err := shownOfRepository[T](c)
	if err != nil {
		return err
	}
	shown, err := show(&v)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, shown)
}
