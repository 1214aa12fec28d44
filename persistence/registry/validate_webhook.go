package registry

// checkWebhookFormat accepts what a webhook's body may be. Whether this server can make it is known to who sends it.
func checkWebhookFormat(format *string) error {
	switch *format {
	case "", "json":
		*format = "json"
		return nil
	case "protobuf":
		return nil
	}
	return refuse("format", "%q is unknown: use json or protobuf", shorten(*format))
}
