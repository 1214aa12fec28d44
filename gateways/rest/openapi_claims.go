package rest

// claimOperations describes QR codes and claims.
func claimOperations() map[string]operation {
	return map[string]operation{
		"GET /qr-codes/end-devices/formats":            {summary: "Lists the forms of QR codes.", answer: one[qrFormatsBody]()},
		"GET /qr-codes/end-devices/formats/:format_id": {summary: "Shows a form of QR codes.", answer: one[qrFormat]()},
		"POST /qr-codes/end-devices":                   {summary: "Makes the QR code of a device, as text and as an image.", request: one[qrCodeRequest](), answer: one[qrCodeBody]()},
		"POST /qr-codes/end-devices/parse":             {summary: "Reads a QR code.", request: one[qrParseRequest](), answer: one[qrParsedBody]()},
		"POST /qr-codes/end-devices/:format_id/parse":  {summary: "Reads a QR code of one form.", request: one[qrParseRequest](), answer: one[qrParsedBody]()},
	}
}
