// Runs at CloudFront, before a request for the page: its address is the gateway's, /dashboard/.
function handler(event) {
  var request = event.request;
  if (request.uri === "/" || request.uri === "/dashboard") {
    return {
      statusCode: 307,
      statusDescription: "Temporary Redirect",
      headers: { location: { value: "/dashboard/" } },
    };
  }
  if (request.uri === "/dashboard/") request.uri = "/dashboard/index.html";
  return request;
}
