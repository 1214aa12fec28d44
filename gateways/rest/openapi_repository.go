package rest

import v3 "lorikeet/messages/v3"

// deviceRepositoryOperations describes the device repository; the paths that name an application are older ones of the same.
func deviceRepositoryOperations() map[string]operation {
	const model = "/brands/:brand_id/models/:model_id"
	out := map[string]operation{}
	listed := append([]string{"search"}, paged...)
	for _, prefix := range []string{"GET /dr", "GET /dr/applications/:application_id"} {
		version := prefix + model + "/:firmware_version/:band_id"
		out[prefix+"/brands"] = operation{summary: "Lists makers of devices.", answer: list[v3.EndDeviceBrand]("brands"), query: listed}
		out[prefix+"/brands/:brand_id"] = operation{summary: "Shows a maker of devices.", answer: one[v3.EndDeviceBrand](), query: oneMask}
		out[prefix+"/models"] = operation{summary: "Lists models of devices.", answer: list[v3.EndDeviceModel]("models"), query: listed}
		out[prefix+"/brands/:brand_id/models"] = operation{summary: "Lists the models of a maker.", answer: list[v3.EndDeviceModel]("models"), query: listed}
		out[prefix+model] = operation{summary: "Shows a model of devices.", answer: one[v3.EndDeviceModel](), query: oneMask}
		out[version+"/template"] = operation{summary: "Gives what a device of the model has in common with all others.", answer: one[v3.EndDeviceTemplate]()}
		out[prefix+"/vendors/:vendor_id/profiles/:vendor_profile_id/template"] = operation{summary: "Gives the same by the numbers of lora_alliance_profile_ids, which QR codes hold.", answer: one[v3.EndDeviceTemplate]()}
		for _, codec := range []string{"uplink/decoder", "downlink/encoder", "downlink/decoder"} {
			out[version+"/formatters/"+codec] = operation{summary: "Gives the script of a payload formatter; examples if the field mask names them.", answer: one[v3.MessagePayloadCodec](), query: oneMask}
		}
	}
	return out
}
